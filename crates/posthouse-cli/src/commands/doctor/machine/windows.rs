//! The limits of a Windows machine, read from the output of its commands. If a command does not
//! show a value, the value is unknown.

use std::process::{Command, Stdio};

use super::{finding, processors, unknown};
use crate::commands::doctor::{Finding, Verdict};

/// Returns the findings about this machine. The number of open files is not limited: a process can
/// have 16 million handles.
pub(in crate::commands::doctor) fn findings() -> Vec<Finding> {
    vec![
        system(output_of("cmd", &["/c", "ver"]).as_deref()),
        processors(),
        local_ports(output_of("netsh", &["int", "ipv4", "show", "dynamicport", "tcp"]).as_deref()),
    ]
}

/// Returns the version: the last number with points in the output. The text around it is in the
/// user's language and the console's code page.
fn system(output: Option<&str>) -> Finding {
    let is_number =
        |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    let mut words = output.unwrap_or_default().rsplit(|c: char| c.is_whitespace() || c == ']');
    match words.find(is_number) {
        Some(version) => finding("system", format!("Windows {version}"), Verdict::Good, ""),
        None => unknown("system"),
    }
}

/// Returns the ports for outgoing connections. In every language, the output has the first port and
/// then their number.
fn local_ports(output: Option<&str>) -> Finding {
    let values = output.unwrap_or_default().lines().filter_map(|line| line.split_once(':'));
    let numbers: Vec<u32> = values.filter_map(|(_, value)| value.trim().parse().ok()).collect();
    let [first, count] = numbers[..] else { return unknown("local ports") };
    let value = format!("{first} to {}", first.saturating_add(count).saturating_sub(1));
    let text = format!("{count} connections from here to one address and port");
    if count >= 16_000 {
        return finding("local ports", value, Verdict::Good, text);
    }
    let more = "; for more: netsh int ipv4 set dynamicport tcp start=10240 num=55296";
    finding("local ports", value, Verdict::Low, text + more)
}

/// Returns the output of a command if it succeeds.
fn output_of(command: &str, words: &[&str]) -> Option<String> {
    let output = Command::new(command).args(words).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_output_gives_unknown_values_and_no_error() {
        for finding in [system(None), system(Some("\r\n")), local_ports(None)] {
            assert_eq!(finding.verdict, Verdict::Unknown, "{finding:?}");
        }
        assert_eq!(local_ports(Some("no such command: 7")).verdict, Verdict::Unknown);
    }

    #[test]
    fn the_version_is_found_in_any_language() {
        for output in [
            "\r\nMicrosoft Windows [Version 10.0.22631.4317]\r\n",
            "\r\nMicrosoft Windows [\u{fffd}\u{fffd}.\u{fffd}\u{fffd} 10.0.22631.4317]\r\n",
            "Microsoft Windows 10.0.22631.4317",
        ] {
            assert_eq!(system(Some(output)).value, "Windows 10.0.22631.4317", "{output}");
        }
    }

    #[test]
    fn ports_are_read_by_their_order_and_few_come_with_a_remedy() {
        let output = |first, count| {
            format!("\r\nProtokoll tcp\r\n-----\r\nErster Port : {first}\r\nAnzahl : {count}\r\n")
        };
        let found = local_ports(Some(&output(49_152, 16_384)));
        assert_eq!((&*found.value, found.verdict), ("49152 to 65535", Verdict::Good));
        let found = local_ports(Some(&output(60_000, 1000)));
        assert_eq!((&*found.value, found.verdict), ("60000 to 60999", Verdict::Low));
        assert!(found.advice.contains("dynamicport"), "{found:?}");
    }
}
