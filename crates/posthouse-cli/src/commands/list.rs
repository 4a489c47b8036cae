//! `posthouse list`: the files of a server.

use std::io::{self, IsTerminal as _};

use clap::Args;
use posthouse::{FileEntry, Target};
use serde::Serialize;

use crate::address;
use crate::failure::{CommandResult, Failure};
use crate::term::stdout;
use crate::term::terminal::Terminal;
use crate::term::timestamp::Timestamp;
use crate::term::units::ByteSize;
use crate::transfer_client::{ConnectFlags, FileClient, RetryPolicy};
use posthouse::Escaped;

/// List the files of a server: size in bytes, time of modification (UTC), name.
///
/// Each file is a line, in the order of the names. On a terminal, the last line is the total.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse list 10.0.0.7:9990
  posthouse list 10.0.0.7:9990 build/                  the files in build
  posthouse list 10.0.0.7:9990 --json | jq -r .name")]
pub(crate) struct List {
    /// The address of the server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::parse_target)]
    target: Target,
    /// The prefix of the names to list
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Print one JSON object per line, for each file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connect: ConnectFlags,
}

#[derive(Debug, Serialize)]
struct EntryLine<'a> {
    name: &'a str,
    bytes: u64,
    /// The time in UTC, by ISO 8601.
    modified: Option<String>,
    modified_ns: Option<i64>,
    executable: bool,
}

impl List {
    pub(crate) fn run(&self) -> CommandResult {
        let policy = RetryPolicy::default();
        let terminal = Terminal::new();
        let mut client = FileClient::start(&self.target, &self.connect, policy, terminal)?;
        let mut files = 0_u64;
        let mut bytes = 0_u64;
        let (listed, invalid) = client.list(&self.prefix, |entry| {
            files += 1;
            bytes = bytes.saturating_add(entry.size);
            if self.json {
                stdout::write_json_line(&EntryLine::new(&entry))
            } else {
                stdout::write(&text(&entry))
            }
        });
        let ended = client.shutdown();
        let invalid = invalid.message();
        if let Err(failure) = listed {
            return Err(failure.with(invalid));
        }
        if !self.json && io::stdout().is_terminal() {
            stdout::write(&format!("{files} files, {}\n", ByteSize(bytes)))?;
        }
        ended.and(invalid.map_or(Ok(()), |text| Err(Failure::runtime(text))))
    }
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp(ns.div_euclid(1_000_000))
}

fn text(entry: &FileEntry) -> String {
    // The column of a missing time is as wide as a time.
    let time = entry.modified_ns.map_or_else(|| "-".to_owned(), |ns| timestamp(ns).to_string());
    format!("{:>12}  {time:<20}  {}\n", entry.size, Escaped(&*entry.name))
}

impl<'a> EntryLine<'a> {
    fn new(entry: &'a FileEntry) -> Self {
        Self {
            name: &entry.name,
            bytes: entry.size,
            modified: entry.modified_ns.map(|ns| timestamp(ns).to_string()),
            modified_ns: entry.modified_ns,
            executable: entry.is_executable(),
        }
    }
}
