//! Offers, transfers and their results, as a handler sees them.

use std::fmt;

use posthouse_wire::{DeliveryId, EntryKind, Replace, Retry, abort_code};

use crate::directory::Directory;
use crate::sync::{Arc, AtomicU64, OnceLock, Ordering};
use posthouse_wire::Escaped;

/// A file or directory that a peer offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub(crate) name: &'a str,
    pub(crate) facts: OfferFacts,
}

/// An offer without its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfferFacts {
    pub(crate) kind: EntryKind,
    pub(crate) size: u64,
    pub(crate) modified_ns: Option<i64>,
    pub(crate) mode: Option<u16>,
    pub(crate) replace: Replace,
    pub(crate) delivery_id: Option<DeliveryId>,
}

impl<'a> Offer<'a> {
    /// Returns the name: a relative path with `/` between its components. It is a valid file name
    /// on every system: it has no `..`, no drive, no device name of Windows, and no character with
    /// a special meaning on some system.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Returns the size in bytes that the peer announces. Posthouse never accepts more bytes than
    /// that.
    pub fn size(&self) -> u64 {
        self.facts.size
    }

    /// Returns the modification time that the peer announces, in ns since 1970.
    pub fn modified_ns(&self) -> Option<i64> {
        self.facts.modified_ns
    }

    /// Returns the permissions that the peer announces: read, write and execute for owner, group
    /// and others, as on Unix. `None` if the peer does not know them.
    pub fn mode(&self) -> Option<u16> {
        self.facts.mode
    }

    /// Returns whether the owner of the peer's file can execute it. If so, the owner of the
    /// received file can execute it, too.
    pub fn is_executable(&self) -> bool {
        is_executable(self.facts.mode)
    }

    /// Returns whether the peer offers a directory. Posthouse itself offers only files; other
    /// programs may offer directories. A directory has no content. If it is accepted, Posthouse
    /// creates it, unless it exists. It counts in the quota while it is empty.
    pub fn is_directory(&self) -> bool {
        self.facts.kind == EntryKind::Directory
    }

    /// Returns whether the peer permits that the file replaces another one of the same name.
    /// Posthouse itself never permits that; other programs may. This side never replaces a file. If
    /// the peer permits it, and a file of that name with other content exists, the transfer fails
    /// with [`MayNotReplace`](TransferErrorKind::MayNotReplace).
    pub fn may_replace(&self) -> bool {
        self.facts.replace == Replace::Permitted
    }

    /// Returns the random number that names the delivery of this file. It is the same in every
    /// attempt if the sender has set it with [`Source::delivery_id`]. `None` if the peer sent none.
    pub fn delivery_id(&self) -> Option<DeliveryId> {
        self.facts.delivery_id
    }
}

pub(crate) fn is_executable(mode: Option<u16>) -> bool {
    mode.is_some_and(|mode| mode & 0o100 != 0)
}

/// A file that this side sends.
///
/// ```no_run
/// use posthouse::{Directory, Source};
/// let outbox = Directory::open("outbox")?;
/// let report = Source::new(&outbox, "reports/today.csv").named("today.csv");
/// # let _ = report;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    pub(crate) directory: Directory,
    pub(crate) path: Box<str>,
    pub(crate) name: Option<Box<str>>,
    pub(crate) delivery_id: Option<DeliveryId>,
}

impl Source {
    /// Makes a source from the relative path of a regular file beneath a directory. The path is
    /// also the name that is offered to the peer, unless [`named`](Self::named) sets another.
    pub fn new(directory: &Directory, path: impl Into<Box<str>>) -> Self {
        Self { directory: directory.clone(), path: path.into(), name: None, delivery_id: None }
    }

    /// Sets the number that names the delivery. The receiver logs the number and returns it with
    /// its confirmation. If you set the same random number for every attempt to send one file, it
    /// shows that the attempts belong together. Default: a new random number for each transfer of
    /// the source.
    #[must_use]
    pub fn delivery_id(mut self, id: DeliveryId) -> Self {
        self.delivery_id = Some(id);
        self
    }

    /// Sets the name that is offered to the peer. A file that the peer has requested keeps the
    /// requested name.
    #[must_use]
    pub fn named(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// The place of a file that this side receives: a directory, and optionally another name.
///
/// ```no_run
/// use posthouse::{Destination, Directory};
/// let inbox = Directory::open("inbox")?;
/// let place = Destination::new(&inbox).named("reports/2026-11-30.csv");
/// # let _ = place;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Destination {
    pub(crate) directory: Directory,
    pub(crate) name: Option<Box<str>>,
}

impl Destination {
    /// Makes a destination in a directory. The file keeps the name of the offer or of the request,
    /// unless [`named`](Self::named) sets another.
    pub fn new(directory: &Directory) -> Self {
        Self { directory: directory.clone(), name: None }
    }

    /// Sets the name of the file, a relative path. An invalid name rejects the offer.
    #[must_use]
    pub fn named(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl From<&Directory> for Destination {
    fn from(directory: &Directory) -> Self {
        Self::new(directory)
    }
}

/// The rejection of an offer, a download or a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    pub(crate) text: Box<str>,
}

impl Reject {
    /// Makes a rejection with a text for the peer. At most 512 bytes of the text are sent.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self { text: text.into() }
    }
}

impl From<&str> for Reject {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Reject {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// The handle of a transfer, with its progress, readable from any thread. Clones refer to the same
/// transfer and are equal. Dropping a handle does not cancel the transfer.
#[derive(Clone)]
pub struct TransferHandle(Arc<Watched>);

struct Watched {
    name: Box<str>,
    incoming: bool,
    delivery_id: OnceLock<DeliveryId>,
    /// The size of the file in bytes; `u64::MAX` if it is not known yet.
    size: AtomicU64,
    moved: AtomicU64,
    resumed_from: AtomicU64,
}

impl TransferHandle {
    pub(crate) fn new(name: &str, incoming: bool) -> Self {
        Self(Arc::new(Watched {
            name: name.into(),
            incoming,
            delivery_id: OnceLock::new(),
            size: AtomicU64::new(u64::MAX),
            moved: AtomicU64::new(0),
            resumed_from: AtomicU64::new(0),
        }))
    }

    pub(crate) fn set_delivery_id(&self, id: DeliveryId) {
        // A get keeps the number of the first offer that answers it.
        let _ = self.0.delivery_id.set(id);
    }

    pub(crate) fn set_size(&self, bytes: u64) {
        self.0.size.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_moved(&self, bytes: u64) {
        self.0.moved.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_resumed_from(&self, bytes: u64) {
        self.0.resumed_from.store(bytes, Ordering::Relaxed);
        self.set_moved(bytes);
    }

    /// Returns the name of the file on the wire.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Returns whether this side receives the file.
    pub fn is_incoming(&self) -> bool {
        self.0.incoming
    }

    /// Returns the number that names the delivery of the file. `None` if the offer has not been
    /// sent or received yet, or has none.
    pub fn delivery_id(&self) -> Option<DeliveryId> {
        self.0.delivery_id.get().copied()
    }

    /// Returns the file's size in bytes; `None` if it is not known yet.
    pub fn size(&self) -> Option<u64> {
        let size = self.0.size.load(Ordering::Relaxed);
        (size != u64::MAX).then_some(size)
    }

    /// Returns the number of bytes sent (of an outgoing file) or written (of an incoming one),
    /// including those that the receiver already had.
    pub fn transferred_bytes(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    /// Returns the number of bytes that the receiver already had, and that were not sent again.
    pub fn resumed_from(&self) -> u64 {
        self.0.resumed_from.load(Ordering::Relaxed)
    }
}

impl PartialEq for TransferHandle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for TransferHandle {}

impl fmt::Debug for TransferHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferHandle")
            .field("name", &self.name())
            .field("moved", &self.transferred_bytes())
            .field("size", &self.size())
            .finish()
    }
}

/// A finished transfer and its result.
#[derive(Clone, Debug)]
pub struct FinishedTransfer {
    pub(crate) progress: TransferHandle,
    pub(crate) result: Result<[u8; 32], TransferError>,
}

impl FinishedTransfer {
    /// Returns the handle of the transfer, with its final counts. It equals the handle that
    /// [`Peer::offer_file`](crate::Peer::offer_file) or
    /// [`Peer::fetch_file`](crate::Peer::fetch_file) returned.
    pub fn handle(&self) -> &TransferHandle {
        &self.progress
    }

    /// Returns the name of the file on the wire.
    pub fn name(&self) -> &str {
        self.progress.name()
    }

    /// Returns whether this side received the file.
    pub fn is_incoming(&self) -> bool {
        self.progress.is_incoming()
    }

    /// Returns the BLAKE3 hash of the file if the receiver has it whole, verified, under its final
    /// name and on its disk.
    ///
    /// # Errors
    ///
    /// The reason why the transfer failed.
    pub fn result(&self) -> Result<&[u8; 32], &TransferError> {
        self.result.as_ref()
    }
}

/// The reason why a transfer failed. The receiver keeps the received part for the next attempt,
/// with three exceptions: the hash of the part was wrong, the sender reported that the file changed
/// ([`TransferErrorKind::Changed`]), or another file got the final name during the transfer.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferError {
    kind: TransferErrorKind,
    detail: Box<str>,
    /// True exactly when the detail is an error text of this side's system, which the peer must not
    /// see.
    of_system: bool,
    by_peer: bool,
}

/// The kind of a [`TransferError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferErrorKind {
    /// One side cancelled the transfer.
    Cancelled,
    /// The handler rejected the file; the text of the error contains the handler's reason.
    Refused,
    /// The receiver has a file of that name with other content, and no file is ever replaced.
    Exists,
    /// The received data differs from the sent data: the hashes differ.
    HashDiffers,
    /// Too many transfers are active, another transfer is writing the same file, or the transfer
    /// was too slow while others waited for its memory or open file
    /// ([`file_memory_bytes`](crate::EndpointOptions::file_memory_bytes)). Try later.
    Busy,
    /// The disk has no space for the file.
    NoSpace,
    /// The quota of the directory has no room for the file.
    QuotaExceeded,
    /// The file does not exist.
    NotFound,
    /// The file name is invalid.
    BadName,
    /// The file changed while it was sent.
    Changed,
    /// The disk failed, or the system denied access to the file.
    Disk,
    /// The receiver drains: it completes the transfers that have begun, and begins no more. So far
    /// only peers that do not run Posthouse report this.
    Draining,
    /// The directory that receives the files is not there. So far only peers that do not run
    /// Posthouse report this.
    NoInbox,
    /// The file system of the receiver cannot store the name. So far only peers that do not run
    /// Posthouse report this.
    NameUnstorable,
    /// The file was replaced by another one of the same size and time while it was sent, or its
    /// permissions changed. The receiver keeps its bytes for the next attempt.
    Replaced,
    /// The receiver has a file of the same name with other content. The sender permits the offered
    /// file to replace it ([`Offer::may_replace`]), but the receiver does not. (Without that
    /// permission of the sender the error is [`Exists`](Self::Exists).)
    MayNotReplace,
    /// The peer broke the transfer protocol.
    Protocol,
    /// The peer was idle for
    /// [`transfer_timeout_ms`](crate::ConnectionOptions::transfer_timeout_ms).
    Expired,
    /// The connection ended.
    Disconnected,
    /// The peer cannot transfer files: it sent no hello, or speaks an older version.
    Unsupported,
}

impl TransferError {
    pub(crate) fn here(kind: TransferErrorKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into(), of_system: false, by_peer: false }
    }

    /// Returns whether the file may have changed since its hash was computed.
    pub(crate) fn doubts_the_file(&self) -> bool {
        use TransferErrorKind as Kind;
        matches!(
            self.kind,
            Kind::HashDiffers | Kind::Changed | Kind::Replaced | Kind::Disk | Kind::Protocol
        )
    }

    /// Makes the error that an abort frame of the peer reports.
    pub(crate) fn of_peer(code: u16, text: &[u8]) -> Self {
        use TransferErrorKind as Kind;
        let kind = match code {
            abort_code::CANCELLED => Kind::Cancelled,
            abort_code::EXISTS => Kind::Exists,
            abort_code::PREFIX_DIFFERS | abort_code::CHANGED => Kind::Changed,
            abort_code::HASH_DIFFERS => Kind::HashDiffers,
            abort_code::BUSY => Kind::Busy,
            abort_code::NO_SPACE => Kind::NoSpace,
            abort_code::QUOTA => Kind::QuotaExceeded,
            abort_code::DRAINING => Kind::Draining,
            abort_code::NO_INBOX => Kind::NoInbox,
            abort_code::NAME_UNSTORABLE => Kind::NameUnstorable,
            abort_code::REPLACED => Kind::Replaced,
            abort_code::MAY_NOT_REPLACE => Kind::MayNotReplace,
            abort_code::NOT_FOUND => Kind::NotFound,
            abort_code::BAD_NAME => Kind::BadName,
            abort_code::DISK => Kind::Disk,
            abort_code::PROTOCOL => Kind::Protocol,
            abort_code::EXPIRED => Kind::Expired,
            abort_code::GOING_AWAY => Kind::Disconnected,
            _ => Kind::Refused,
        };
        let detail = String::from_utf8_lossy(text).into();
        Self { kind, detail, of_system: false, by_peer: true }
    }

    /// Returns the code of the abort frame for the peer.
    pub(crate) fn code(&self) -> u16 {
        use TransferErrorKind as Kind;
        match self.kind {
            Kind::Cancelled => abort_code::CANCELLED,
            Kind::Refused | Kind::Unsupported => abort_code::REFUSED,
            Kind::Exists => abort_code::EXISTS,
            Kind::HashDiffers => abort_code::HASH_DIFFERS,
            Kind::Busy => abort_code::BUSY,
            Kind::NoSpace => abort_code::NO_SPACE,
            Kind::QuotaExceeded => abort_code::QUOTA,
            Kind::Draining => abort_code::DRAINING,
            Kind::NoInbox => abort_code::NO_INBOX,
            Kind::NameUnstorable => abort_code::NAME_UNSTORABLE,
            Kind::Replaced => abort_code::REPLACED,
            Kind::MayNotReplace => abort_code::MAY_NOT_REPLACE,
            Kind::NotFound => abort_code::NOT_FOUND,
            Kind::BadName => abort_code::BAD_NAME,
            Kind::Changed => abort_code::CHANGED,
            Kind::Disk => abort_code::DISK,
            Kind::Protocol => abort_code::PROTOCOL,
            Kind::Expired => abort_code::EXPIRED,
            Kind::Disconnected => abort_code::GOING_AWAY,
        }
    }

    /// Returns the text for the peer. Error texts of this side's disk are not for the peer.
    pub(crate) fn text_for_peer(&self) -> &str {
        if self.of_system { "" } else { &self.detail }
    }

    /// Returns the kind of the error.
    pub fn kind(&self) -> TransferErrorKind {
        self.kind
    }

    /// Returns whether the peer reported the error; otherwise this side found it.
    pub fn is_by_peer(&self) -> bool {
        self.by_peer
    }

    /// Returns whether another attempt may succeed soon even if nobody changes a file, a permission
    /// or an option.
    pub fn is_passing(&self) -> bool {
        use TransferErrorKind as Kind;
        matches!(
            self.kind,
            Kind::Busy
                | Kind::Changed
                | Kind::Replaced
                | Kind::HashDiffers
                | Kind::Expired
                | Kind::Disconnected
        )
    }

    /// Returns whether another attempt may succeed: soon if [`is_passing`] returns true, otherwise
    /// after a longer time, for example if the disk was full or the receiver drains.
    ///
    /// [`is_passing`]: Self::is_passing
    pub fn may_succeed_later(&self) -> bool {
        abort_code::retry(self.code()) == Retry::Later
    }
}

impl From<posthouse_io::Error> for TransferError {
    fn from(error: posthouse_io::Error) -> Self {
        use posthouse_io::Failure;
        let kind = match error.failure {
            Failure::NotFound => TransferErrorKind::NotFound,
            Failure::Exists => TransferErrorKind::Exists,
            Failure::NotAFile => TransferErrorKind::BadName,
            Failure::Locked | Failure::NoDescriptors | Failure::NoBuffers => {
                TransferErrorKind::Busy
            }
            Failure::NoSpace => TransferErrorKind::NoSpace,
            _ => TransferErrorKind::Disk,
        };
        Self { of_system: true, ..Self::here(kind, error.to_string()) }
    }
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use TransferErrorKind as Kind;
        if self.by_peer {
            f.write_str("the peer reports: ")?;
        }
        f.write_str(match self.kind {
            Kind::Cancelled => "cancelled",
            Kind::Refused => "rejected",
            Kind::Exists => "a file of that name exists, with other content",
            Kind::HashDiffers => "the received data differs from the sent data (the hashes differ)",
            Kind::Busy => "busy with this file or with too many others; try again later",
            Kind::NoSpace => "the disk is full",
            Kind::QuotaExceeded => "quota exceeded",
            Kind::Draining => "the receiver drains and accepts no more files",
            Kind::NoInbox => "the directory that receives the files is not there",
            Kind::NameUnstorable => "the file system of the receiver cannot store this name",
            Kind::Replaced => "the file was replaced by another one while it was sent",
            Kind::MayNotReplace => {
                "a file of that name exists, with other content, and the receiver does not permit \
                 its replacement"
            }
            Kind::NotFound => "no such file",
            Kind::BadName => "invalid file name",
            Kind::Changed => "the file changed while it was sent",
            Kind::Disk => "disk error",
            Kind::Protocol => "transfer protocol error",
            Kind::Expired => "timed out: the peer sent nothing for too long",
            Kind::Disconnected => "the connection ended",
            Kind::Unsupported => "the peer cannot transfer files",
        })?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", Escaped(&*self.detail)) }
    }
}

crate::error::debug_as_display!(TransferError);

impl std::error::Error for TransferError {}

/// A file in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// The name: a relative path with `/` between its components. Like the name of an [`Offer`], it
    /// is valid on every system.
    pub name: Box<str>,
    /// The size in bytes.
    pub size: u64,
    /// The modification time, in ns since 1970.
    pub modified_ns: Option<i64>,
    /// The permissions: read, write and execute for owner, group and others, as on Unix. `None` if
    /// the peer does not know them.
    pub mode: Option<u16>,
}

/// Files of a peer, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileList {
    /// The files.
    pub files: Vec<FileEntry>,
    /// The invalid names in the peer's listing: raw bytes as the peer sent them, in ascending
    /// order. Their files are not in `files`.
    pub invalid_names: Vec<Box<[u8]>>,
    /// The name after which the list continues; `None` if the list is complete. The name can be
    /// invalid, or the name of a directory. Then it is not in `files`, and it follows all names
    /// there.
    pub next: Option<Box<str>>,
}

impl FileEntry {
    /// Returns whether the owner can execute the file.
    pub fn is_executable(&self) -> bool {
        is_executable(self.mode)
    }
}
