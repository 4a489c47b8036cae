//! The limits of a Linux machine, read from /proc. If a file is missing, its value is unknown.

use std::fs;
use std::path::Path;

use posthouse::{EndpointOptions, Tuning};

use super::{finding, processors, unknown};
use crate::commands::doctor::{Finding, Verdict};

/// Returns the findings about this machine.
pub(in crate::commands::doctor) fn findings() -> Vec<Finding> {
    Machine::below(Path::new("/proc")).findings()
}

/// The values from /proc. A value is `None` if its file is missing or has another form.
#[derive(Clone, Debug, Default)]
struct Machine {
    kernel: Option<String>,
    /// The soft and the hard limit.
    open_files: Option<(u64, u64)>,
    somaxconn: Option<u64>,
    /// The first and the last port.
    ports: Option<(u64, u64)>,
    io_uring_disabled: Option<u64>,
    /// The number of pages that all TCP sockets together may hold.
    tcp_pages: Option<u64>,
    page_bytes: Option<u64>,
    /// The maximum receive and send buffers of one socket.
    tcp_buffers: Option<(u64, u64)>,
}

impl Machine {
    fn below(proc: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(proc.join(path)).ok();
        let numbers = |path: &str| text(path).map(|text| parse_numbers(&text)).unwrap_or_default();
        let last = |path: &str| numbers(path).last().copied();
        Self {
            kernel: text("sys/kernel/osrelease").map(|text| text.trim().to_owned()),
            open_files: text("self/limits").and_then(|text| parse_open_files(&text)),
            somaxconn: last("sys/net/core/somaxconn"),
            ports: match numbers("sys/net/ipv4/ip_local_port_range")[..] {
                [first, last] => Some((first, last)),
                _ => None,
            },
            io_uring_disabled: last("sys/kernel/io_uring_disabled"),
            tcp_pages: last("sys/net/ipv4/tcp_mem"),
            page_bytes: text("self/smaps").and_then(|text| parse_page_bytes(&text)),
            tcp_buffers: last("sys/net/ipv4/tcp_rmem").zip(last("sys/net/ipv4/tcp_wmem")),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        vec![
            self.system(),
            processors(),
            self.open_files(EndpointOptions::default().max_connections as u64),
            self.backlog(u64::from(Tuning::default().backlog)),
            self.port_range(),
            self.tcp_memory(),
            self.tcp_buffers(),
            self.io_uring(),
        ]
    }

    fn system(&self) -> Finding {
        let system = std::env::consts::OS;
        match &self.kernel {
            Some(kernel) => finding("kernel", format!("{system} {kernel}"), Verdict::Good, ""),
            None => finding("kernel", system, Verdict::Unknown, ""),
        }
    }

    fn open_files(&self, wanted: u64) -> Finding {
        let Some((soft, hard)) = self.open_files else { return unknown("open files") };
        let shown = |limit| match limit {
            u64::MAX => "unlimited".to_owned(),
            limit => limit.to_string(),
        };
        let value = format!("{} soft, {} hard", shown(soft), shown(hard));
        // The hundred others are listeners, descriptors of the backend, and the log.
        let enough = hard >= wanted.saturating_add(100);
        let (verdict, advice) = if enough {
            let text =
                format!("enough for max_connections = {wanted}; the program raises soft to hard");
            (Verdict::Good, text)
        } else {
            let text = format!(
                "too few for max_connections = {wanted}: lower that, or raise the hard limit \
                 (LimitNOFILE= in systemd, or /etc/security/limits.conf)"
            );
            (Verdict::Low, text)
        };
        finding("open files", value, verdict, advice)
    }

    fn backlog(&self, wanted: u64) -> Finding {
        let Some(somaxconn) = self.somaxconn else { return unknown("somaxconn") };
        let (verdict, advice) = if somaxconn >= wanted {
            (Verdict::Good, format!("enough for tuning.backlog = {wanted}"))
        } else {
            let text = format!(
                "bursts of more than {somaxconn} new connections are lost: \
                 sysctl -w net.core.somaxconn={wanted}"
            );
            (Verdict::Low, text)
        };
        finding("somaxconn", somaxconn.to_string(), verdict, advice)
    }

    fn port_range(&self) -> Finding {
        let Some((first, last)) = self.ports else { return unknown("local ports") };
        let count = (last + 1).saturating_sub(first);
        let value = format!("{first} to {last}");
        let text = format!("{count} connections from here to one address and port");
        if count >= 16_384 {
            return finding("local ports", value, Verdict::Good, text);
        }
        let more = "; for more: sysctl -w net.ipv4.ip_local_port_range=\"10240 65535\"";
        finding("local ports", value, Verdict::Low, text + more)
    }

    fn tcp_memory(&self) -> Finding {
        let Some(pages) = self.tcp_pages else { return unknown("TCP memory") };
        let Some(bytes) = self.page_bytes.map(|page| pages.saturating_mul(page)) else {
            return finding("TCP memory", format!("{pages} pages"), Verdict::Unknown, "");
        };
        let value = format!("{} MiB for all sockets", bytes >> 20);
        if bytes >= 256 << 20 {
            return finding("TCP memory", value, Verdict::Good, "");
        }
        let text = "connections that do not read can use it up: \
                    raise the last number of net.ipv4.tcp_mem (pages)";
        finding("TCP memory", value, Verdict::Low, text)
    }

    fn tcp_buffers(&self) -> Finding {
        let Some((receive, send)) = self.tcp_buffers else { return unknown("TCP buffers") };
        let value = format!("{} KiB in, {} KiB out, at most", receive >> 10, send >> 10);
        if receive.min(send) >= 1 << 20 {
            return finding("TCP buffers", value, Verdict::Good, "of one connection");
        }
        let text = "too small for one connection over a long, fast link: \
                    raise the last numbers of net.ipv4.tcp_rmem and tcp_wmem";
        finding("TCP buffers", value, Verdict::Low, text)
    }

    /// Returns the value of the sysctl. Only the test of the backends shows whether io_uring works.
    fn io_uring(&self) -> Finding {
        const WITHOUT: &str = "if io_uring is forbidden, auto takes readiness; \
                               `sysctl kernel.io_uring_disabled=0` allows it";
        let (value, verdict, advice) = match self.io_uring_disabled {
            Some(0) => ("allowed", Verdict::Good, "kernel.io_uring_disabled"),
            Some(1) => ("allowed for a group only", Verdict::Low, WITHOUT),
            Some(2) => ("forbidden", Verdict::Low, WITHOUT),
            _ => ("no sysctl", Verdict::Unknown, ""),
        };
        finding("io_uring", value, verdict, advice)
    }
}

fn parse_numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().map_while(|word| word.parse().ok()).collect()
}

/// Parses the soft and the hard limit in /proc/self/limits.
fn parse_open_files(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut words = line.split_whitespace().map(|word| match word {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    });
    Some((words.next()??, words.next()??))
}

/// Parses `KernelPageSize:        4 kB` in /proc/self/smaps.
fn parse_page_bytes(smaps: &str) -> Option<u64> {
    let line = smaps.lines().find_map(|line| line.strip_prefix("KernelPageSize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_proc_gives_unknown_values_and_no_error() {
        let machine = Machine::below(Path::new("/does/not/exist"));
        for finding in machine.findings() {
            let expected = match finding.what {
                "cores" => Verdict::Good,
                _ => Verdict::Unknown,
            };
            assert_eq!(finding.verdict, expected, "{finding:?}");
        }
    }

    #[test]
    fn limits_are_judged_against_the_defaults_and_the_advice_names_the_knob() {
        let machine = Machine {
            open_files: Some((1024, 20_000)),
            somaxconn: Some(128),
            ports: Some((60_000, 60_999)),
            tcp_pages: Some(1000),
            page_bytes: Some(4096),
            tcp_buffers: Some((6 << 20, 4 << 20)),
            ..Machine::default()
        };
        let found = machine.findings();
        let of = |what| found.iter().find(|finding| finding.what == what).unwrap();
        assert_eq!(of("open files").verdict, Verdict::Good);
        assert_eq!(of("open files").value, "1024 soft, 20000 hard");
        assert_eq!(of("somaxconn").verdict, Verdict::Low);
        assert!(of("somaxconn").advice.contains("net.core.somaxconn=4096"));
        assert!(of("local ports").advice.starts_with("1000 connections"));
        assert_eq!(of("TCP memory").verdict, Verdict::Low);
        assert_eq!(of("TCP buffers").verdict, Verdict::Good);
        for (disabled, verdict) in [(0, Verdict::Good), (1, Verdict::Low), (2, Verdict::Low)] {
            let machine = Machine { io_uring_disabled: Some(disabled), ..machine.clone() };
            assert_eq!(machine.io_uring().verdict, verdict);
            assert!(machine.io_uring().advice.contains("kernel.io_uring_disabled"));
        }
        let few = Machine { open_files: Some((1024, 4096)), ..machine };
        assert_eq!(few.open_files(16_384).verdict, Verdict::Low);
    }

    #[test]
    fn proc_files_are_read_as_the_kernel_writes_them() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             96000                96000            processes\n\
                      Max open files            1024                 unlimited        files\n";
        assert_eq!(parse_open_files(limits), Some((1024, u64::MAX)));
        assert_eq!(parse_open_files("Max processes 1 2 processes\n"), None);
        assert_eq!(parse_page_bytes("Size: 4 kB\nKernelPageSize:        4 kB\n"), Some(4096));
        assert_eq!(parse_numbers("32768\t60999\n"), [32_768, 60_999]);
        assert!(parse_numbers("none").is_empty());
    }
}
