//! What tests that passed have left out: each says so on stderr, in a line with [`MARK`].
//!
//! The runner keeps what they said in a report (`junit` in `.config/nextest.toml`).

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Outcome;

const MARK: &str = "NOT TESTED: ";

fn report(root: &Path, profile: &str) -> PathBuf {
    root.join("target/nextest").join(profile).join("tests.xml")
}

/// Removes the report of an earlier run.
pub(crate) fn forget(root: &Path, profile: &str) -> Outcome {
    let path = report(root, profile);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A line for each test that left something out, and nothing where another runner ran them.
pub(crate) fn told(root: &Path, profile: &str) -> Outcome<Vec<String>> {
    let path = report(root, profile);
    match fs::read_to_string(&path) {
        Ok(report) => Ok(lines(&report)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn lines(report: &str) -> Vec<String> {
    let mut test = "";
    // In order, and once where a test says the same of several backends.
    let mut lines = BTreeSet::new();
    for line in report.lines() {
        if let Some((_, rest)) = line.split_once("<testcase name=\"") {
            test = rest.split('"').next().unwrap_or_default();
        }
        if let Some((_, rest)) = line.split_once(MARK) {
            let what = rest.split("</system-").next().unwrap_or_default();
            lines.insert(format!("{test}: {}", plain(what)));
        }
    }
    lines.into_iter().collect()
}

fn plain(text: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (written, meant)| text.replace(written, meant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_told_once_for_each_test() {
        let report = "<testsuite name=\"it\">\n\
            <testcase name=\"b::second\" classname=\"it\">\n\
            <system-err>a word\nNOT TESTED: it&apos;s &amp;lt;\nNOT TESTED: it&apos;s &amp;lt;\n\
            </system-err></testcase>\n\
            <testcase name=\"a::first\" classname=\"it\">\n\
            <system-err>NOT TESTED: &lt;that&gt;</system-err></testcase>";
        assert_eq!(lines(report), ["a::first: <that>", "b::second: it's &lt;"]);
    }

    #[test]
    fn nothing_is_told_where_there_is_no_report() {
        let root = tempfile::tempdir().unwrap();
        forget(root.path(), "wine").unwrap();
        assert_eq!(told(root.path(), "wine"), Ok(Vec::new()));
        fs::create_dir_all(root.path().join("target/nextest/wine/tests.xml")).unwrap();
        assert!(told(root.path(), "wine").unwrap_err().contains("tests.xml"));
    }
}
