//! Invalid names (threat T17) through the framework. The tests of `FileName` check the rules of
//! names. This test checks that no file is created, whichever side sends the invalid name.

use posthouse::{ClientError, TransferErrorKind};

use super::file_handler::serve;
use crate::harness::everywhere;

const BAD: &[&str] = &[
    "",
    "/etc/passwd",
    "../up",
    "a/../../up",
    "a//b",
    "./a",
    "C:/a",
    "C:a",
    "a\\b",
    "\\\\host\\a",
    "file:stream",
    "CON",
    "nul.txt",
    "dir/COM1",
    "ends with dot.",
    "ends with space ",
    "a\0b",
    "a\nb",
    "\u{202e}txt.exe",
    ".posthouse/x",
    ".POSTHOUSE/x",
];

#[test]
fn a_bad_name_is_refused_on_both_sides_and_nothing_is_created() {
    everywhere(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let (server, log) = serve(harness, &there.directory());
        let client = harness.client(&server);
        for name in BAD {
            for fetched in [false, true] {
                let error = match fetched {
                    false => client.put(name, &here.directory()).unwrap_err(),
                    true => client.get(name, &here.directory()).unwrap_err(),
                };
                let ClientError::Transfer(error) = error else { panic!("{name:?}: {error}") };
                assert_eq!(error.kind(), TransferErrorKind::BadName, "{name:?}: {error}");
                assert!(!error.to_string().contains(['\n', '\0', '\u{202e}']), "{error:?}");
            }
        }
        client.close();
        harness.end(&server);
        assert!(log.transfers().is_empty());
        assert!(here.files().is_empty() && there.files().is_empty());
        assert!(here.parts().is_empty() && there.parts().is_empty());
    });
}
