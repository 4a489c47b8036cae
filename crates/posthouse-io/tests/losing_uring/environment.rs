//! The backend that the environment names, for ports that leave it open.

use posthouse_io::{Backend, CompletionPort, Layout, Options, Selected};

use crate::harness::is_here;
use crate::own_process::in_own_process_with;
use crate::says;

fn opened(backend: Backend) -> std::io::Result<Selected> {
    CompletionPort::open(backend, &Options::default()).map(|(_, selected)| selected)
}

fn chosen(backend: Backend) -> (&'static str, String) {
    let selected = opened(backend).expect("the port opens");
    (selected.backend, selected.reason)
}

#[test]
fn without_a_word_the_best_is_taken() {
    if !is_here(&Backend::Uring) {
        return;
    }
    if in_own_process_with("environment::without_a_word_the_best_is_taken", None) {
        let (backend, reason) = chosen(Backend::Auto);
        assert_eq!(backend, "uring");
        says(&reason, &["probed"]);
    }
}

#[test]
fn auto_takes_the_best() {
    if !is_here(&Backend::Uring) {
        return;
    }
    if in_own_process_with("environment::auto_takes_the_best", Some("auto")) {
        let (backend, reason) = chosen(Backend::Auto);
        assert_eq!(backend, "uring");
        says(&reason, &["probed"]);
    }
}

#[test]
fn uring_is_forced_unless_another_is_asked_for() {
    if !is_here(&Backend::Uring) {
        return;
    }
    let test = "environment::uring_is_forced_unless_another_is_asked_for";
    if in_own_process_with(test, Some("uring")) {
        let (backend, reason) = chosen(Backend::Auto);
        assert_eq!(backend, "uring");
        says(&reason, &["POSTHOUSE_BACKEND"]);
        assert_eq!(chosen(Backend::Readiness), ("readiness", "requested".to_owned()));

        // A forced backend has no fallback.
        let layout = Some(Layout::Shared);
        let options = Options { layout, ..Options::default() };
        let error = CompletionPort::open(Backend::Auto, &options);
        let error = error.expect_err("no shared layout").to_string();
        says(&error, &["POSTHOUSE_BACKEND", "shared", "pinned", "readiness"]);
    }
}

#[test]
fn readiness_is_forced_unless_another_is_asked_for() {
    if !is_here(&Backend::Uring) {
        return;
    }
    let test = "environment::readiness_is_forced_unless_another_is_asked_for";
    if in_own_process_with(test, Some("readiness")) {
        let (backend, reason) = chosen(Backend::Auto);
        assert_eq!(backend, "readiness");
        says(&reason, &["POSTHOUSE_BACKEND"]);
        assert_eq!(chosen(Backend::Uring), ("uring", "requested".to_owned()));
    }
}

#[test]
fn nonsense_is_refused_where_it_is_read() {
    if !is_here(&Backend::Uring) {
        return;
    }
    let test = "environment::nonsense_is_refused_where_it_is_read";
    if in_own_process_with(test, Some("kqueue")) {
        let error = opened(Backend::Auto).expect_err("nonsense").to_string();
        says(&error, &["POSTHOUSE_BACKEND=kqueue", "auto", "iocp", "uring", "readiness"]);
        // The port does not read the variable if the options name a backend.
        assert_eq!(chosen(Backend::Uring).0, "uring");
        assert_eq!(chosen(Backend::Readiness).0, "readiness");
    }
}
