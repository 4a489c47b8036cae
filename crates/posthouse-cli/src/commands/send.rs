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

/// Send files and directories to a server.
///
/// A directory is sent with all its files, under its own name, as `cp -r` does. DIR/. sends its
/// files without the name. Only regular files are sent; empty directories are not. The command
/// skips, with a message for each: links inside a directory, sockets, FIFOs, devices, directories
/// on another file system, and .posthouse, which holds unfinished files. A link that is itself a
/// PATH is followed.
///
/// A file appears on the server's disk whole and verified, or not at all. It never replaces another
/// file. A file that the server already has is not sent again. After a lost connection the transfer
/// resumes. To resume it later, run the same command again.
///
/// The exit code is 0 if the server confirmed every file, 1 if a file failed (stderr has the
/// reason), 2 for wrong usage, and 130 after an interruption. With --watch, an interruption is the
/// normal end: the exit code is 0 if the server confirmed every file that was seen. It is 1 if not,
/// or if there never was a connection.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse send 10.0.0.7:9990 report.pdf
  posthouse send 10.0.0.7:9990 build/ --key-file secret.key
  posthouse send 10.0.0.7:9990 build/. --as releases/1.4      the files in build, under another name
  posthouse send 10.0.0.7:9990 disk.img --retry=2h            and wait up to 2 hours for the server
  posthouse send 10.0.0.7:9990 outbox/. --watch               each file that appears in outbox
  posthouse send 10.0.0.7:9990 logs --json | jq .error")]
pub(crate) struct Send {
    /// The address of the server, HOST:PORT
    #[arg(value_name = "ADDR", value_parser = address::parse_target)]
    target: Target,
    /// The files and directories to send
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// The name of the one PATH on the server: a relative path with / between its parts. If NAME
    /// ends with /, a file keeps its own name below it
    #[arg(long = "as", value_name = "NAME")]
    sent_as: Option<String>,
    /// Watch the one PATH, a directory, until Ctrl-C: send each file that appears in it or is
    /// renamed in it. A file is sent once two scans, one second apart, find the same size and time.
    /// An unreachable server is waited for, unless --retry sets a limit
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    connect: ConnectFlags,
    #[command(flatten)]
    transfer: TransferFlags,
}

/// The time that transfers in flight get after an interruption of `--watch`.
const WATCH_GRACE: Duration = Duration::from_secs(5);

impl Send {
    pub(crate) fn run(&self) -> CommandResult {
        if self.sent_as.is_some() && self.paths.len() > 1 {
            let text = "--as takes one PATH, but there are several; send them one by one";
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
            // An interruption is the normal end of a watch, and a failure only if a file is
            // missing.
            RunEnd::Interrupted if client.was_connected() => {
                result.map_err(|missing| Failure::runtime(missing.to_string()))
            }
            RunEnd::Interrupted => {
                let text = "interrupted before there was a connection to";
                Err(Failure::runtime(format!("{text} {}", self.target)))
            }
            RunEnd::Complete | RunEnd::NotAllFound(_) | RunEnd::GaveUp(_) => result,
        };
        client.shutdown().and(result)
    }

    fn watched_directory(&self) -> CommandResult<WatchedDirectory> {
        let opened = match &self.paths[..] {
            [path] => SendPath::open(path, self.sent_as.as_deref()),
            _ => Err("--watch takes one PATH, but there are several".to_owned()),
        };
        let shown = Escaped(self.paths[0].as_path());
        match opened {
            Ok(SendPath::Directory(root, top)) => Ok(WatchedDirectory::new(root, top)),
            Ok(SendPath::File(..)) => {
                let text = format!("--watch takes a directory, but {shown} is a file");
                Err(Failure::usage(text))
            }
            Err(why) => Err(Failure::usage(format!("cannot watch {shown}: {why}"))),
        }
    }
}
