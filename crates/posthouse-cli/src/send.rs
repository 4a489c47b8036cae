//! `posthouse send`: files and directories to a server.

mod cargo;
mod tree;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use posthouse::{Escaped, Target};

use crate::address;
use crate::courier::{
    self, Account, CarryFlags, Courier, End, LineFlags, Manifest, Screen, Style, Way,
};
use crate::failure::{Failure, Outcome};
use cargo::Cargo;
use tree::Start;
use watch::Watch;

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
    #[arg(value_name = "ADDR", value_parser = address::target)]
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
    line: LineFlags,
    #[command(flatten)]
    carry: CarryFlags,
}

impl Send {
    pub(crate) fn run(&self) -> Outcome {
        if self.sent_as.is_some() && self.paths.len() > 1 {
            let text = "--as names one PATH, and there are several: send them one by one";
            return Err(Failure::usage(text));
        }
        let mut screen = Screen::new(self.carry.quiet);
        match self.watch {
            true => self.watch(&mut screen),
            false => self.send(&mut screen),
        }
    }

    fn send(&self, screen: &mut Screen) -> Outcome {
        let style = courier::style(self.carry.quiet, self.carry.json, screen);
        let mut account = Account::new(Way::Send, style);
        let mut cargo = Cargo::find(&self.paths, self.sent_as.as_deref(), &mut account, screen);
        if cargo.left() == 0 {
            return account.close(screen, &End::Done, 0);
        }
        let patience = self.carry.patience();
        let mut courier = Courier::start(&self.target, &self.line, patience)?;
        let (end, left) = courier.carry(&mut cargo, &mut account, screen, Duration::ZERO);
        let closed = account.close(screen, &end, left);
        courier.end().and(closed)
    }

    fn watch(&self, screen: &mut Screen) -> Outcome {
        let found = match &self.paths[..] {
            [path] => Start::find(path, self.sent_as.as_deref()),
            _ => Err("--watch looks at one directory, and there are several PATHs".to_owned()),
        };
        let shown = Escaped(self.paths[0].as_path());
        let mut watch = match found {
            Ok(Start::Tree(root, top)) => Watch::new(root, top),
            Ok(Start::File(..)) => {
                let text = format!("--watch looks at a directory, and {shown} is a file");
                return Err(Failure::usage(text));
            }
            Err(why) => return Err(Failure::usage(format!("cannot watch {shown}: {why}"))),
        };
        // Of what never ends there is no summary.
        let style = match courier::style(self.carry.quiet, self.carry.json, screen) {
            Style::Summary => Style::Lines,
            style => style,
        };
        let mut account = Account::new(Way::Send, style);
        let patience = self.carry.patience_of_a_watch();
        let mut courier = Courier::start(&self.target, &self.line, patience)?;
        let finishing = courier.close_timeout();
        let (end, left) = courier.carry(&mut watch, &mut account, screen, finishing);
        let closed = account.close(screen, &end, left);
        let closed = match end {
            // That is how a watch ends: well, unless something is missing.
            End::Interrupted if courier.was_up() => {
                closed.map_err(|missing| Failure::runtime(missing.to_string()))
            }
            End::Interrupted => {
                let text = "interrupted: there never was a connection to";
                Err(Failure::runtime(format!("{text} {}", self.target)))
            }
            End::Done | End::NotBegun(_) | End::GaveUp(_) => closed,
        };
        courier.end().and(closed)
    }
}
