//! `posthouse list`: what files a server has.

use std::io::{self, IsTerminal as _};

use clap::Args;
use posthouse::{Escaped, FileEntry, Target};
use serde::Serialize;

use crate::address;
use crate::courier::{Courier, LineFlags, Listing, Patience, Screen};
use crate::failure::{Failure, Outcome};
use crate::moment::Moment;
use crate::output;
use crate::quantity::Bytes;

/// List the files that a server has: size in bytes, time of modification (UTC), name.
///
/// In the order of the names, one line a file. On a terminal the last line is the sum.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse list 10.0.0.7:9990
  posthouse list 10.0.0.7:9990 build/                  what is in build
  posthouse list 10.0.0.7:9990 --json | jq -r .name")]
pub(crate) struct List {
    /// The server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::target)]
    target: Target,
    /// Only files whose names begin so
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    prefix: String,
    /// Print one JSON object a line, for each file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    line: LineFlags,
}

#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    bytes: u64,
    /// UTC, by ISO 8601.
    modified: Option<String>,
    modified_ms: Option<i64>,
    executable: bool,
}

impl List {
    pub(crate) fn run(&self) -> Outcome {
        let screen = Screen::new(false);
        let mut courier = Courier::start(&self.target, &self.line, Patience::default())?;
        let (mut files, mut bytes) = (0, 0_u64);
        let listed = courier.list(&screen, &self.prefix, |entry| {
            files += 1;
            bytes = bytes.saturating_add(entry.size);
            output::write(&if self.json { json(&entry) } else { text(&entry) })
        });
        let ended = courier.end();
        if let Listing::Refused(why) = listed? {
            return Err(Failure::runtime(why));
        }
        if !self.json && io::stdout().is_terminal() {
            output::write(&format!("{files} files, {}\n", Bytes(bytes)))?;
        }
        ended
    }
}

fn text(entry: &FileEntry) -> String {
    // As wide as a time is.
    let time = entry.modified_ms.map_or_else(|| "-".to_owned(), |ms| Moment(ms).to_string());
    format!("{:>12}  {time:<20}  {}\n", entry.size, Escaped(&*entry.name))
}

fn json(entry: &FileEntry) -> String {
    let line = Line {
        name: &entry.name,
        bytes: entry.size,
        modified: entry.modified_ms.map(|ms| Moment(ms).to_string()),
        modified_ms: entry.modified_ms,
        executable: entry.executable,
    };
    let line = serde_json::to_string(&line).expect("these values can be written as JSON");
    format!("{line}\n")
}
