//! The handler of a server with a directory: it receives files into it and sends files from it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use posthouse::{
    Destination, Directory, FinishedTransfer, Framing, Handler, HandlerResult, Message, Offer,
    OfferResponder, Peer, Reject, Responder, Source, TransferError, TransferErrorKind,
};

use super::line_writer::LineSender;
use crate::failure::{CommandResult, Failure};
use crate::settings::ListenSettings;
use crate::term::hints;
use crate::term::units::{self, ByteSize};
use posthouse::Escaped;

/// The directory to serve, and what peers may do with it: flags of `serve`.
#[derive(Debug, Args)]
pub(super) struct DirectoryFlags {
    /// The directory that files go into and come from; it must be there
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What may lie in the directory, everything in it counted: bytes, or with K, M, G or T
    /// (powers of 1024). A file that would be too much is refused before anything is written
    #[arg(long, value_name = "SIZE", requires = "dir", value_parser = units::parse_bytes)]
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

/// Receives and sends files; echoes every message.
#[derive(Clone)]
pub(super) struct FileServer {
    directory: Directory,
    allows_uploads: bool,
    allows_downloads: bool,
    lines: LineSender,
}

impl DirectoryFlags {
    pub(super) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Opens the directory. Returns `None` if the command line names none.
    pub(super) fn open(
        &self,
        listeners: &[ListenSettings],
        lines: &LineSender,
    ) -> CommandResult<Option<FileServer>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let foreign = listeners.iter().find(|listener| listener.framing != Framing::Native);
        if let Some(ListenSettings { address, framing, .. }) = foreign {
            return Err(Failure::usage(format!(
                "--dir needs the native framing, and on {address} {framing} has no place for \
                 files; leave out the framing or --dir"
            )));
        }
        let shown = Escaped(dir.as_path());
        let mut directory = Directory::open(dir).map_err(|error| {
            Failure::usage(match error.kind() {
                ErrorKind::NotFound => {
                    let make = hints::make_directory(shown);
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
        Ok(Some(FileServer {
            directory,
            allows_uploads: !self.read_only,
            allows_downloads: !self.drop_only,
            lines: lines.clone(),
        }))
    }
}

impl Handler for FileServer {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        peer.send(message.kind(), message.payload());
        Ok(())
    }

    fn requested(
        &self,
        _: &mut Peer<'_, Self>,
        message: Message<'_>,
        responder: &mut Responder<'_>,
    ) -> HandlerResult {
        responder.reply(message.kind(), message.payload());
        Ok(())
    }

    fn offered(
        &self,
        _: &mut Peer<'_, Self>,
        _: &Offer<'_>,
        _: &mut OfferResponder<'_>,
    ) -> Result<Option<Destination>, Reject> {
        match self.allows_uploads {
            true => Ok(Some(Destination::new(&self.directory))),
            false => Err("this server gives files and takes none".into()),
        }
    }

    fn download_requested(&self, _: &mut Peer<'_, Self>, name: &str) -> Result<Source, Reject> {
        self.readable().map(|directory| Source::new(directory, name))
    }

    fn list_requested(&self, _: &mut Peer<'_, Self>, _: &str) -> Result<Directory, Reject> {
        self.readable().cloned()
    }

    fn transferred(&self, peer: &mut Peer<'_, Self>, transfer: &FinishedTransfer) -> HandlerResult {
        let who = peer.address().map(|address| address.to_string()).unwrap_or_default();
        match transfer.result() {
            Ok(_) => self.lines.done(done_line(transfer, &who)),
            Err(error) => self.lines.failed(failed_line(transfer, &who, error)),
        }
        Ok(())
    }
}

impl FileServer {
    /// Returns the directory if peers may get files from it.
    fn readable(&self) -> Result<&Directory, Reject> {
        match self.allows_downloads {
            true => Ok(&self.directory),
            false => Err("this server takes files and gives none".into()),
        }
    }
}

/// The line of a file that was transferred. A name that a terminal would obey was rejected before.
fn done_line(transfer: &FinishedTransfer, who: &str) -> String {
    let progress = transfer.handle();
    let (name, size) = (transfer.name(), progress.transferred_bytes());
    let already = if size > 0 && progress.resumed_from() == size { "there already, " } else { "" };
    match transfer.is_incoming() {
        true => format!("received {name} ({}, {already}from {who})", ByteSize(size)),
        false => format!("sent {name} ({}, {already}to {who})", ByteSize(size)),
    }
}

/// The line of a file that could not be transferred.
fn failed_line(transfer: &FinishedTransfer, who: &str, error: &TransferError) -> String {
    let progress = transfer.handle();
    let (verb, preposition) = match transfer.is_incoming() {
        true => ("received", "from"),
        false => ("sent", "to"),
    };
    let name = transfer.name();
    let what = match (error.kind(), progress.size()) {
        (TransferErrorKind::Disconnected, Some(size)) => {
            let moved = ByteSize(progress.transferred_bytes());
            format!(
                "{error}; {moved} of {} are there, and the next attempt goes on",
                ByteSize(size)
            )
        }
        _ => error.to_string(),
    };
    format!("not {verb}: {name} ({preposition} {who}): {what}")
}
