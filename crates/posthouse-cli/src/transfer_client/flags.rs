//! The flags of the commands that transfer files.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::report::ReportStyle;
use super::retry::RetryPolicy;
use crate::settings;
use crate::term::terminal::Terminal;
use crate::term::units;

/// How to reach the server: flags of every command that connects to a file server.
#[derive(Debug, Args)]
pub(crate) struct ConnectFlags {
    /// A file with the secret that the server demands
    #[arg(long, value_name = "FILE")]
    pub(super) key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(super) io: settings::IoFlags,
}

/// What to print, and how long to retry: flags of the commands that send or get files.
#[derive(Debug, Args)]
pub(crate) struct TransferFlags {
    /// Print one JSON object a line: for each file name, bytes, sent_bytes, resumed_from,
    /// already_there, blake3, seconds and error, and one for all of them at the end
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    quiet: bool,
    /// Go on trying for so long without progress, in seconds or with s, m or h; 0: not at all.
    /// Given, it counts for the first connection, too; default: 30 s, once there has been one
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true,
          default_missing_value = "30s", value_parser = units::parse_duration)]
    retry: Option<Duration>,
}

impl TransferFlags {
    /// The terminal to print on.
    pub(crate) fn terminal(&self) -> Terminal {
        Terminal::new(self.quiet)
    }

    /// The form in which the transfers are reported on this terminal.
    pub(crate) fn report_style(&self, terminal: &Terminal) -> ReportStyle {
        ReportStyle::new(self.quiet, self.json, terminal)
    }

    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        match self.retry {
            None => RetryPolicy::default(),
            Some(time) => {
                RetryPolicy { give_up_after: Some(time), retries_first_connect: !time.is_zero() }
            }
        }
    }

    /// The retry policy of `--watch`, which by default never gives up.
    pub(crate) fn watch_retry_policy(&self) -> RetryPolicy {
        match self.retry {
            None => RetryPolicy { give_up_after: None, retries_first_connect: true },
            Some(_) => self.retry_policy(),
        }
    }
}
