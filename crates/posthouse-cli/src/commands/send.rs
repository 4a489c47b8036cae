//! `posthouse send`: files and directories to a server.

mod path_jobs;
mod tree;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use posthouse::Target;

use crate::address;
use crate::failure::{CommandResult, Failure};
use crate::transfer_client::{
    ConnectFlags, Direction, FileClient, JobSource as _, RunEnd, TransferFlags,
};
use path_jobs::PathJobs;
use posthouse::Escaped;
use tree::SendPath;
use watch::WatchedDirectory;

/// Send files and directories to a server with a directory.
///
/// A directory is sent with all that is in it, under its own name, as `cp -r` does; DIR/. sends
/// what is in it without the name. Only regular files are sent: empty directories are not, and left
/// out are links in a directory, sockets, FIFOs, devices, what an unfinished reception left
/// (.posthouse) and directories on another file system; each is told. A link that is itself named
/// here is followed.
///
/// A file is there whole, verified and on the server's disk, or not at all, and never replaces
/// another. What the server has already is not sent again. After a lost connection it goes on where
/// it was, and so does the same command given again.
///
/// The exit code is 0 only if the server confirmed every file; 1 if any failed, each with its
/// reason on stderr; 2 for wrong usage; 130 for an interruption. That is how --watch ends: then it
/// is 0 if every file that was seen is confirmed, and 1 if not, or if there never was a connection.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse send 10.0.0.7:9990 report.pdf
  posthouse send 10.0.0.7:9990 build/ --key-file secret.key
  posthouse send 10.0.0.7:9990 build/. --as releases/1.4      what is in build, under another name
  posthouse send 10.0.0.7:9990 disk.img --retry=2h            waits for a server that is away
  posthouse send 10.0.0.7:9990 outbox/. --watch               whatever appears in outbox
  posthouse send 10.0.0.7:9990 logs --json | jq .error")]
pub(crate) struct Send {
    /// The server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::parse_target)]
    target: Target,
    /// Files and directories
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// Send the one PATH under this name: a relative path with / between its parts. With / at its
    /// end a file keeps its own name after it
    #[arg(long = "as", value_name = "NAME")]
    sent_as: Option<String>,
    /// Go on sending what appears in the one PATH, a directory, or is renamed in it, until Ctrl-C.
    /// A file is complete when two looks, a second apart, find the same size and time. A server
    /// that is away is waited for, unless --retry says how long. The exit code is 0 only if the
    /// server confirmed every file that was seen
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    connect: ConnectFlags,
    #[command(flatten)]
    transfer: TransferFlags,
}

/// The time in which transfers may still finish after an interruption of `--watch`.
const WATCH_GRACE: Duration = Duration::from_secs(5);

impl Send {
    pub(crate) fn run(&self) -> CommandResult {
        if self.sent_as.is_some() && self.paths.len() > 1 {
            let text = "--as names one PATH, and there are several: send them one by one";
            return Err(Failure::usage(text));
        }
        if self.watch { self.watch() } else { self.send() }
    }

    fn send(&self) -> CommandResult {
        let mut report = self.transfer.report(Direction::Send);
        let mut jobs = PathJobs::find(&self.paths, self.sent_as.as_deref(), &mut report);
        if jobs.remaining() == 0 {
            return report.close(&RunEnd::Complete);
        }
        let policy = self.transfer.retry_policy();
        let terminal = report.terminal().clone();
        let mut client = FileClient::start(&self.target, &self.connect, policy, terminal)?;
        let end = client.transfer(&mut jobs, &mut report, Duration::ZERO);
        let result = report.close(&end);
        client.shutdown().and(result)
    }

    fn watch(&self) -> CommandResult {
        let mut directory = self.watched_directory()?;
        let mut report = self.transfer.report(Direction::Send).without_summary();
        let policy = self.transfer.watch_retry_policy();
        let terminal = report.terminal().clone();
        let mut client = FileClient::start(&self.target, &self.connect, policy, terminal)?;
        let end = client.transfer(&mut directory, &mut report, WATCH_GRACE);
        let result = report.close(&end);
        let result = match end {
            // The usual end of a watch: a success unless a file is missing.
            RunEnd::Interrupted if client.was_connected() => {
                result.map_err(|missing| Failure::runtime(missing.to_string()))
            }
            RunEnd::Interrupted => {
                let text = "interrupted: there never was a connection to";
                Err(Failure::runtime(format!("{text} {}", self.target)))
            }
            RunEnd::Complete | RunEnd::GaveUp(_) => result,
        };
        client.shutdown().and(result)
    }

    fn watched_directory(&self) -> CommandResult<WatchedDirectory> {
        let opened = match &self.paths[..] {
            [path] => SendPath::open(path, self.sent_as.as_deref()),
            _ => Err("--watch looks at one directory, and there are several PATHs".to_owned()),
        };
        let shown = Escaped(self.paths[0].as_path());
        match opened {
            Ok(SendPath::Directory(root, top)) => Ok(WatchedDirectory::new(root, top)),
            Ok(SendPath::File(..)) => {
                let text = format!("--watch looks at a directory, and {shown} is a file");
                Err(Failure::usage(text))
            }
            Err(why) => Err(Failure::usage(format!("cannot watch {shown}: {why}"))),
        }
    }
}
