//! `cargo xtask churn`: the example `churn` of posthouse-io, built for release.
//!
//! A closed connection keeps its port for a minute. A long campaign is therefore best run in a
//! network of its own, where nobody else looks for a port:
//! `unshare -rn sh -c 'ip link set lo up && cargo xtask churn --connections 10000000'`.

use crate::{Outcome, workspace};

pub(crate) fn run(words: &[String]) -> Outcome {
    let example = ["run", "--release", "--package", "posthouse-io", "--example", "churn", "--"];
    workspace::succeed(workspace::cargo(&workspace::root(), &example).args(words))
}
