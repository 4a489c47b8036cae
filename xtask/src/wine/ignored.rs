//! The list of the tests that are ignored on Windows, each with its reason.
//!
//! A test whose statement holds on Windows and that cannot run under Wine has the attribute
//! `#[cfg_attr(windows, ignore = "Wine: why")]`. The test programs list these tests with the
//! reasons.

use std::process::Command;

use serde_json::Value;

use crate::{Result, workspace};

/// The arguments that make test programs list the tests that they would ignore, as JSON.
pub(super) const LISTING: [&str; 5] =
    ["--list", "--ignored", "--format=json", "-Zunstable-options", "--color=never"];

/// Returns a line for each ignored test, from the list that `command` prints.
pub(super) fn list(command: &mut Command) -> Result<Vec<String>> {
    let name = workspace::shown(command);
    let output = command.output().map_err(|error| format!("cannot run `{name}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{name}` failed: {}\n{said}", output.status));
    }
    lines(&String::from_utf8_lossy(&output.stdout))
}

fn lines(listed: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut understood = false;
    for line in listed.lines() {
        let Ok(test) = serde_json::from_str::<Value>(line) else { continue };
        understood |= test["type"] == "suite";
        // Every listed test is ignored: the field `ignore` only says whether this run would skip
        // it.
        if test["event"] != "discovered" {
            continue;
        }
        let name = test["name"].as_str().unwrap_or_default();
        let place = test["source_path"].as_str().unwrap_or_default();
        match test["ignore_message"].as_str().filter(|reason| !reason.is_empty()) {
            Some(reason) => lines.push(format!("{name}: {reason}")),
            None => return Err(format!("{name} ({place}) is ignored without a reason")),
        }
    }
    if !understood {
        return Err("the list of ignored tests has an unknown format".into());
    }
    lines.sort_unstable();
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(name: &str, reason: &str) -> String {
        let head = r#"{ "type": "test", "event": "discovered", "source_path": "a.rs", "name""#;
        format!(r#"{head}: "{name}", "ignore": false, "ignore_message": "{reason}" }}"#)
    }

    #[test]
    fn ignored_tests_are_listed_with_their_reasons_in_order() {
        let suite = r#"{ "type": "suite", "event": "discovery" }"#;
        let listed = [suite, &test("b", "Wine: no"), &test("a", "Wine: nor that"), "{ no JSON"];
        let told = ["a: Wine: nor that", "b: Wine: no"];
        assert_eq!(lines(&listed.join("\n")).unwrap(), told);
    }

    #[test]
    fn a_test_that_is_ignored_without_a_reason_is_an_error() {
        assert!(lines(&test("silent", "")).unwrap_err().contains("silent"));
    }

    #[test]
    fn a_list_of_another_kind_is_an_error() {
        assert!(lines("a: test\n{\"kind\": \"suite\"}").unwrap_err().contains("unknown format"));
    }
}
