//! The matching of reported ends with accepted transfers.

use super::{AcceptedKind, Agreed, ConnLog, Reported};
use posthouse::TransferErrorKind;

const FAILED: Reported = Reported::Failed(TransferErrorKind::Cancelled);

fn agreed(name: &str, is_directory: bool) -> Agreed {
    let name = name.to_owned();
    Agreed { name, is_directory, incoming: true, late: false, told: None, coming: None }
}

#[test]
fn a_file_and_a_directory_of_one_name_and_size_cannot_be_distinguished() {
    // The directory was accepted first, and the file ends first.
    let agreed = [agreed("x", true), agreed("x", false), agreed("d", true), agreed("f", false)];
    let mut log = ConnLog { agreed: agreed.into(), ..ConnLog::default() };
    let mut end = |name, told| log.end_agreed(name, Some(0), true, told);
    assert_eq!(end("x", FAILED), Some(AcceptedKind::Either));
    assert_eq!(end("x", Reported::Whole), Some(AcceptedKind::Either));
    assert_eq!(end("x", Reported::Whole), None, "both have ended");
    assert_eq!(end("d", Reported::Whole), Some(AcceptedKind::Directory));
    assert_eq!(end("f", Reported::Whole), Some(AcceptedKind::File));
    assert_eq!(end("g", Reported::Whole), None);
}
