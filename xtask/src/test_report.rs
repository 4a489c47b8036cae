//! The report that nextest writes for a run (`junit` in `.config/nextest.toml`): the number of
//! tests that passed, and the parts that they skipped. A test prints a skipped part on stderr after
//! [`MARK`].

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::Result;

const MARK: &str = "NOT TESTED: ";

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TestReport {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// A line for each test that skipped a part.
    pub(crate) left_out: BTreeSet<String>,
}

fn path(root: &Path, profile: &str) -> PathBuf {
    root.join("target/nextest").join(profile).join("tests.xml")
}

/// Removes the report of an earlier run.
pub(crate) fn remove(root: &Path, profile: &str) -> Result {
    let path = path(root, profile);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Reads the report of a run; it is empty if nextest did not run.
pub(crate) fn read(root: &Path, profile: &str) -> Result<TestReport> {
    let path = path(root, profile);
    match fs::read_to_string(&path) {
        Ok(report) => Ok(parse(&report)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(TestReport::default()),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn parse(xml: &str) -> TestReport {
    let mut report = TestReport::default();
    let mut test = "";
    for line in xml.lines() {
        if line.contains("<testsuites ") {
            let count = |name| attribute(line, name).and_then(|value| value.parse().ok());
            report.failed = count("failures").unwrap_or(0) + count("errors").unwrap_or(0);
            let not_passed = report.failed + count("skipped").unwrap_or(0);
            report.passed = count("tests").unwrap_or(0_u64).saturating_sub(not_passed);
        }
        if line.contains("<testcase ") {
            test = attribute(line, "name").unwrap_or_default();
        }
        if let Some((_, rest)) = line.split_once(MARK) {
            let what = rest.split("</system-").next().unwrap_or_default();
            report.left_out.insert(format!("{test}: {}", plain(what)));
        }
    }
    report
}

fn attribute<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!(" {name}=\""))?;
    rest.split('"').next()
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
    fn tests_are_counted_and_what_one_left_out_is_listed_once() {
        let report = parse(
            "<testsuites name=\"nextest-run\" tests=\"9\" skipped=\"1\" failures=\"1\" \
             errors=\"1\" a>\n\
            <testsuite name=\"it\" tests=\"9\" disabled=\"0\" errors=\"1\" failures=\"1\">\n\
            <testcase name=\"b::second\" classname=\"it\">\n\
            <system-err>a word\nNOT TESTED: it&apos;s &amp;lt;\nNOT TESTED: it&apos;s &amp;lt;\n\
            </system-err></testcase>\n\
            <testcase name=\"a::first\" classname=\"it\">\n\
            <system-err>NOT TESTED: &lt;that&gt;</system-err></testcase>",
        );
        assert_eq!((report.passed, report.failed), (6, 2));
        assert!(report.left_out.iter().eq(["a::first: <that>", "b::second: it's &lt;"]));
    }

    #[test]
    fn a_report_that_does_not_exist_is_empty_and_one_that_cannot_be_read_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        remove(root.path(), "wine").unwrap();
        assert_eq!(read(root.path(), "wine"), Ok(TestReport::default()));
        fs::create_dir_all(root.path().join("target/nextest/wine/tests.xml")).unwrap();
        assert!(read(root.path(), "wine").unwrap_err().contains("tests.xml"));
    }
}
