//! The parts that the test harnesses of sender and receiver share.

use std::fmt::Debug;

use super::{OpNumber, Tell, TransferFailure};

/// The result of a transfer.
pub(super) type End = Result<[u8; 32], TransferFailure<&'static str>>;

/// Takes the operation in flight that looks like this one.
pub(super) fn take_operation<Op: Debug + PartialEq>(
    operations: &mut Vec<(OpNumber, Op)>,
    op: &Op,
) -> (OpNumber, Op) {
    let found = operations.iter().position(|(_, other)| other == op);
    let found = found.unwrap_or_else(|| panic!("{op:?} of {operations:?}"));
    operations.remove(found)
}

/// Returns the failure of a transfer that has ended with one.
pub(super) fn failure_of(end: Option<&(End, Tell)>) -> &TransferFailure<&'static str> {
    match end {
        Some((Err(failure), _)) => failure,
        end => panic!("{end:?}"),
    }
}
