//! The handler of a server with a directory: it receives and sends the files of the directory.

use std::io::ErrorKind;
use std::path::PathBuf;

use clap::Args;
use posthouse::{
    Destination, Directory, FinishedTransfer, Framing, Handler, HandlerResult, Message, Offer,
    OfferResponder, Peer, Reject, Responder, Source, TransferError, TransferErrorKind,
};

use super::announcement::Service;
use super::line_writer::LineSender;
use crate::failure::{CommandResult, Failure};
use crate::peer_lines::LineKind;
use crate::settings::ListenSettings;
use crate::term::hints;
use crate::term::units::{self, ByteSize};
use posthouse::Escaped;

/// The flags of `serve` for its directory: which one, and the rights of peers.
#[derive(Debug, Args)]
pub(super) struct DirectoryFlags {
    /// The directory to serve; it must exist
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The maximum size of all files in the directory: bytes, or a number with K, M, G or T (powers
    /// of 1024). A file that would exceed it is rejected before anything is written. Unfinished
    /// files count; those that no transfer holds are removed first, the oldest first
    #[arg(long, value_name = "SIZE", requires = "dir", value_parser = units::parse_bytes)]
    max_bytes: Option<u64>,
    /// The maximum number of files in the directory, unfinished ones included as in --max-bytes
    #[arg(long, value_name = "N", requires = "dir")]
    max_files: Option<u64>,
    /// Allow downloads and listings only; no uploads
    #[arg(long, requires = "dir", conflicts_with_all = ["max_bytes", "max_files"])]
    read_only: bool,
    /// Accept uploads only; no downloads, no listings
    #[arg(long, requires = "dir", conflicts_with = "read_only")]
    drop_only: bool,
}

/// The handler: it receives and sends files, and echoes every message.
#[derive(Clone)]
pub(super) struct FileServer {
    directory: Directory,
    rights: Rights,
    lines: LineSender,
}

/// The operations that a server allows its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// Uploads, downloads and listings.
    All,
    /// Downloads and listings: `--read-only`.
    ReadOnly,
    /// Uploads: `--drop-only`.
    DropOnly,
}

impl DirectoryFlags {
    /// Returns the service that these flags describe.
    pub(super) fn service(&self) -> Service<'_> {
        match (&self.dir, self.rights()) {
            (None, _) => Service::Echo,
            (Some(dir), Rights::ReadOnly) => Service::DownloadsOnly(dir),
            (Some(dir), Rights::All | Rights::DropOnly) => Service::Uploads(dir),
        }
    }

    fn rights(&self) -> Rights {
        if self.read_only {
            Rights::ReadOnly
        } else if self.drop_only {
            Rights::DropOnly
        } else {
            Rights::All
        }
    }

    /// Opens the directory. Returns `None` if the command line does not name one.
    pub(super) fn open(
        &self,
        listeners: &[ListenSettings],
        lines: &LineSender,
    ) -> CommandResult<Option<FileServer>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let foreign = listeners.iter().find(|listener| listener.framing != Framing::Native);
        if let Some(ListenSettings { address, framing, .. }) = foreign {
            return Err(Failure::usage(format!(
                "--dir requires the native framing, but {address} has the framing {framing}; \
                 leave out the framing or --dir"
            )));
        }
        let shown = Escaped(dir.as_path());
        let mut directory = Directory::open(dir).map_err(|error| {
            Failure::usage(match error.kind() {
                ErrorKind::NotFound => {
                    let make = hints::make_directory(shown);
                    format!("--dir {shown}: no such directory; create it: {make}")
                }
                _ => format!("--dir: {error}"),
            })
        })?;
        if self.max_bytes.is_some() || self.max_files.is_some() {
            let bytes = self.max_bytes.unwrap_or(u64::MAX);
            let limited = directory.with_quota(bytes, self.max_files.unwrap_or(u64::MAX));
            directory = limited.map_err(|error| {
                Failure::usage(format!("cannot count the files in --dir {shown}: {error}"))
            })?;
        }
        Ok(Some(FileServer { directory, rights: self.rights(), lines: lines.clone() }))
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
        match self.rights {
            Rights::All | Rights::DropOnly => Ok(Some(Destination::new(&self.directory))),
            Rights::ReadOnly => Err("this server accepts no uploads".into()),
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
            Ok(_) => {
                let kind = match transfer.is_incoming() {
                    true => LineKind::Received,
                    false => LineKind::Sent,
                };
                self.lines.send(kind, done_line(transfer, &who));
            }
            Err(error) => {
                self.lines.send(LineKind::Failed, failed_line(transfer, &who, error));
            }
        }
        Ok(())
    }
}

impl FileServer {
    /// Returns the directory if peers may get files from it.
    fn readable(&self) -> Result<&Directory, Reject> {
        match self.rights {
            Rights::All | Rights::ReadOnly => Ok(&self.directory),
            Rights::DropOnly => Err("this server offers no downloads and no listings".into()),
        }
    }
}

/// Returns the line of a file that was transferred.
fn done_line(transfer: &FinishedTransfer, who: &str) -> String {
    let progress = transfer.handle();
    let name = Escaped(transfer.name());
    let bytes = progress.transferred_bytes();
    let already =
        if bytes > 0 && progress.resumed_from() == bytes { "already there, " } else { "" };
    let size = ByteSize(bytes);
    if transfer.is_incoming() {
        format!("received {name} ({size}, {already}from {who})")
    } else {
        format!("sent {name} ({size}, {already}to {who})")
    }
}

/// Returns the line of a file that could not be transferred.
fn failed_line(transfer: &FinishedTransfer, who: &str, error: &TransferError) -> String {
    let progress = transfer.handle();
    let name = Escaped(transfer.name());
    let start = if transfer.is_incoming() {
        format!("not received: {name} (from {who})")
    } else {
        format!("not sent: {name} (to {who})")
    };
    let what = match (error.kind(), progress.size()) {
        (TransferErrorKind::Disconnected, Some(size)) => {
            let moved = ByteSize(progress.transferred_bytes());
            format!(
                "{error}; {moved} of {} transferred, and the next attempt resumes there",
                ByteSize(size)
            )
        }
        _ => error.to_string(),
    };
    format!("{start}: {what}")
}
