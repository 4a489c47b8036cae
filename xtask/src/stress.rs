//! `cargo xtask stress`: builds the program of the crate `stress` for release and runs it.
//!
//! A closed connection keeps its port for a minute. Run a long campaign therefore in a network
//! namespace of its own, where no other program needs a port:
//! `unshare -rn sh -c 'ip link set lo up && cargo xtask stress --connections 10000000'`.

use crate::{Result, workspace};

pub(crate) fn run(arguments: &[String]) -> Result {
    let program = ["run", "--release", "--package", "posthouse-stress", "--"];
    workspace::succeed(workspace::cargo(&workspace::root(), &program).args(arguments))
}
