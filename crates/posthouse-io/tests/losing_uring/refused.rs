//! Calls that a sandbox refuses.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

use crate::harness::is_here;
use crate::own_process::in_own_process;
use crate::{fallen_back, forced, says};

/// The value in linux/io_uring.h.
const REGISTER_ENABLE_RINGS: u32 = 12;
const REGISTER_PBUF_RING: u32 = 22;

/// The part of the advice that the error texts have in common.
const WHAT_TO_DO: &str = "kernel.io_uring_disabled";
const TOO_OLD: &str = "Linux 6.1";

/// A system call that the sandbox fails, and its error number.
struct Refused {
    call: libc::c_long,
    /// The only operation of `io_uring_register` that fails; `None` means all.
    only: Option<u32>,
    errno: libc::c_int,
}

impl Refused {
    /// Makes the call fail from now on in all threads of this process. This cannot be undone.
    fn install(&self) {
        let rule = |operation| {
            let condition = SeccompCondition::new(
                1,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::Eq,
                u64::from(operation),
            );
            SeccompRule::new(vec![condition.expect("the condition is valid")])
                .expect("the rule is valid")
        };
        let rules = BTreeMap::from([(self.call, self.only.map(rule).into_iter().collect())]);
        let refusal = SeccompAction::Errno(self.errno.cast_unsigned());
        let machine = std::env::consts::ARCH.try_into().expect("the machine supports seccomp");
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refusal, machine);
        let program: BpfProgram =
            filter.expect("the filter is valid").try_into().expect("a program of the filter");
        apply_filter_all_threads(&program).expect("the sandbox can be entered");
    }
}

/// Makes a call fail, and checks the error text of a port: with io_uring forced, and after the
/// fallback.
fn refuse(call: libc::c_long, only: Option<u32>, errno: libc::c_int, parts: &[&str]) {
    Refused { call, only, errno }.install();
    let error = forced();
    says(&error, &["cannot use io_uring: "]);
    says(&error, parts);
    assert_eq!(fallen_back(), error, "the two errors have different texts");
    eprintln!("{error}");
}

#[test]
fn setup_denied() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::setup_denied") {
        let parts = ["setting up a ring", WHAT_TO_DO, "seccomp"];
        refuse(libc::SYS_io_uring_setup, None, libc::EPERM, &parts);
    }
}

#[test]
fn setup_unknown() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::setup_unknown") {
        let parts = ["setting up a ring", "this kernel has no io_uring", "sandbox"];
        refuse(libc::SYS_io_uring_setup, None, libc::ENOSYS, &parts);
    }
}

/// A kernel before 6.1 does not know the flags and fails the call with `EINVAL`.
#[test]
fn setup_of_an_old_kernel() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::setup_of_an_old_kernel") {
        let parts = ["setting up a ring", TOO_OLD];
        refuse(libc::SYS_io_uring_setup, None, libc::EINVAL, &parts);
    }
}

#[test]
fn setup_without_locked_memory() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::setup_without_locked_memory") {
        let parts = ["setting up a ring", "ulimit -l"];
        refuse(libc::SYS_io_uring_setup, None, libc::ENOMEM, &parts);
    }
}

/// The ring exists at that point, with its descriptor and its memory, and all of it must be
/// released.
#[test]
fn enter_denied() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::enter_denied") {
        let parts = ["entering a ring", WHAT_TO_DO, "seccomp"];
        refuse(libc::SYS_io_uring_enter, None, libc::EPERM, &parts);
    }
}

#[test]
fn enter_unknown() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::enter_unknown") {
        let parts = ["entering a ring", "this kernel has no io_uring", "sandbox"];
        refuse(libc::SYS_io_uring_enter, None, libc::ENOSYS, &parts);
    }
}

#[test]
fn register_denied() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::register_denied") {
        let parts = ["registering buffers", WHAT_TO_DO, "seccomp"];
        refuse(libc::SYS_io_uring_register, None, libc::EPERM, &parts);
    }
}

#[test]
fn a_missing_feature() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::a_missing_feature") {
        let parts = ["registering buffers", TOO_OLD];
        let only = Some(REGISTER_PBUF_RING);
        refuse(libc::SYS_io_uring_register, only, libc::EINVAL, &parts);
    }
}

#[test]
fn enabling_denied() {
    if !is_here(&posthouse_io::Backend::Uring) {
        return;
    }
    if in_own_process("refused::enabling_denied") {
        let parts = ["enabling a ring", WHAT_TO_DO, "seccomp"];
        let only = Some(REGISTER_ENABLE_RINGS);
        refuse(libc::SYS_io_uring_register, only, libc::EPERM, &parts);
    }
}
