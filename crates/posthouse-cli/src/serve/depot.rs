//! The handler of a server with a directory: it takes files into it and gives files from it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use posthouse::{
    Answer, Directory, Escaped, Framing, Handler, Message, Offer, Outcome as Handled, Peer,
    Transfer, TransferError, TransferErrorKind, Wanted,
};

use super::journal::Journal;
use crate::advice;
use crate::echo::Echo;
use crate::failure::{Failure, Outcome};
use crate::quantity::{self, Bytes};

/// The directory, and what may be done with it.
#[derive(Debug, Args)]
pub(super) struct DepotFlags {
    /// The directory that files go into and come from; it must be there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What may lie in the directory, everything in it counted: bytes, or with K, M, G or T
    /// (powers of 1024). A file that would be too much is refused before anything is written
    #[arg(long, value_name = "SIZE", requires = "dir", value_parser = quantity::bytes)]
    max_bytes: Option<u64>,
    /// How many files may lie in the directory
    #[arg(long, value_name = "N", requires = "dir")]
    max_files: Option<u64>,
    /// Give files and take none
    #[arg(long, requires = "dir", conflicts_with_all = ["max_bytes", "max_files"])]
    read_only: bool,
    /// Take files and give none, nor tell what there is
    #[arg(long, requires = "dir", conflicts_with = "read_only")]
    drop_only: bool,
}

/// Takes and gives files; any message comes back, as from an echo server.
#[derive(Clone)]
pub(super) struct Depot {
    directory: Directory,
    takes: bool,
    gives: bool,
    journal: Journal,
}

impl DepotFlags {
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Opens the directory, where there is one.
    pub(super) fn open(&self, framing: &Framing, journal: &Journal) -> Outcome<Option<Depot>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        if *framing != Framing::Native {
            return Err(Failure::usage(format!(
                "--dir needs the native framing: {framing} has no place for files; leave out \
                 --framing or --dir"
            )));
        }
        let shown = Escaped(dir.as_path());
        let mut directory = Directory::open(dir).map_err(|error| {
            Failure::usage(match error.kind() {
                ErrorKind::NotFound => {
                    let make = advice::make_directory(shown);
                    format!("--dir {shown}: there is no such directory; make it: {make}")
                }
                _ => format!("{error}; --dir needs a directory that may be opened"),
            })
        })?;
        if self.max_bytes.is_some() || self.max_files.is_some() {
            let bytes = self.max_bytes.unwrap_or(u64::MAX);
            let limited = directory.with_quota(bytes, self.max_files.unwrap_or(u64::MAX));
            directory = limited.map_err(|error| {
                Failure::usage(format!("cannot count what lies in --dir {shown}: {error}"))
            })?;
        }
        let (takes, gives) = (!self.read_only, !self.drop_only);
        Ok(Some(Depot { directory, takes, gives, journal: journal.clone() }))
    }
}

impl Handler for Depot {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, ()>, message: Message<'_>) -> Handled {
        Echo.received(peer, message)
    }

    fn offered(&self, _: &mut Peer<'_, ()>, _: &Offer<'_>) -> Answer {
        match self.takes {
            true => Answer::here(&self.directory),
            false => Answer::refuse("this server gives files and takes none"),
        }
    }

    fn wanted(&self, _: &mut Peer<'_, ()>, _: &Wanted<'_>) -> Answer {
        match self.gives {
            true => Answer::here(&self.directory),
            false => Answer::refuse("this server takes files and gives none"),
        }
    }

    fn transferred(&self, peer: &mut Peer<'_, ()>, transfer: &Transfer) -> Handled {
        let who = peer.address().map(|address| address.to_string()).unwrap_or_default();
        match transfer.result() {
            Ok(_) => self.journal.done(done(transfer, &who)),
            Err(error) => self.journal.failed(failed(transfer, &who, error)),
        }
        Ok(())
    }
}

/// A file that is over there, or here, in one line. Its name holds nothing that a terminal would
/// obey: others are refused before they get here.
fn done(transfer: &Transfer, who: &str) -> String {
    let progress = transfer.progress();
    let (name, size) = (transfer.name(), progress.moved());
    let already = if size > 0 && progress.resumed_from() == size { "there already, " } else { "" };
    match transfer.is_incoming() {
        true => format!("received {name} ({}, {already}from {who})", Bytes(size)),
        false => format!("sent {name} ({}, {already}to {who})", Bytes(size)),
    }
}

fn failed(transfer: &Transfer, who: &str, error: &TransferError) -> String {
    let progress = transfer.progress();
    let (verb, way) = match transfer.is_incoming() {
        true => ("received", "from"),
        false => ("sent", "to"),
    };
    let name = transfer.name();
    let what = match (error.kind(), progress.size()) {
        (TransferErrorKind::Disconnected, Some(size)) => {
            let moved = Bytes(progress.moved());
            format!("{error}; {moved} of {} are there, and the next attempt goes on", Bytes(size))
        }
        _ => error.to_string(),
    };
    format!("not {verb}: {name} ({way} {who}): {what}")
}
