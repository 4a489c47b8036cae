//! Files on their way, as a handler sees them.

use std::fmt;

use posthouse_wire::abort_code;

use crate::directory::Directory;
use crate::sync::{Arc, AtomicU64, Ordering};
use posthouse_wire::Escaped;

/// A file that a peer offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    pub(crate) name: &'a str,
    pub(crate) size: u64,
    pub(crate) modified_ms: Option<i64>,
    pub(crate) executable: bool,
}

impl<'a> Offer<'a> {
    /// Its name: a relative path with `/` between its parts. It has been checked: no `..`, no
    /// drive, no device, nothing that one of the systems takes for something else.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Its size in bytes, as the peer says it; more never comes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// When it was modified, in ms since 1970, as the peer says it.
    pub fn modified_ms(&self) -> Option<i64> {
        self.modified_ms
    }

    /// Whether the peer's file can be executed. What arrives can be, then, by its owner's rights.
    pub fn is_executable(&self) -> bool {
        self.executable
    }
}

/// The file that this side sends.
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
}

impl Source {
    /// Takes a regular file beneath a directory, by its relative path. The path is also the name
    /// that the peer is told, unless [`named`](Self::named) sets another.
    pub fn new(directory: &Directory, path: impl Into<Box<str>>) -> Self {
        Self { directory: directory.clone(), path: path.into(), name: None }
    }

    /// Sets the name that the peer is told of an offered file. A file that the peer asked for keeps
    /// the name by which it asked.
    #[must_use]
    pub fn named(mut self, name: impl Into<Box<str>>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// The place of a file that this side receives.
#[derive(Clone, Debug)]
pub struct Destination {
    pub(crate) directory: Directory,
    pub(crate) name: Option<Box<str>>,
}

impl Destination {
    /// Takes a directory; the file gets the name under which the peer offers it, or under which it
    /// was asked for, unless [`named`](Self::named) sets another.
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
    /// Rejects with a text for the peer, at most 512 bytes of which are sent.
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

/// A file on its way: its progress, readable from any thread. Clones watch the same transfer, and
/// two handles are equal if they do.
#[derive(Clone)]
pub struct TransferHandle(Arc<Watched>);

struct Watched {
    name: Box<str>,
    incoming: bool,
    /// `u64::MAX`: not known yet.
    size: AtomicU64,
    moved: AtomicU64,
    resumed_from: AtomicU64,
}

impl TransferHandle {
    pub(crate) fn new(name: &str, incoming: bool) -> Self {
        Self(Arc::new(Watched {
            name: name.into(),
            incoming,
            size: AtomicU64::new(u64::MAX),
            moved: AtomicU64::new(0),
            resumed_from: AtomicU64::new(0),
        }))
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

    /// The file's name, as the two sides speak of it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it comes in; else it goes out.
    pub fn is_incoming(&self) -> bool {
        self.0.incoming
    }

    /// The file's size in bytes, once that is known.
    pub fn size(&self) -> Option<u64> {
        let size = self.0.size.load(Ordering::Relaxed);
        (size != u64::MAX).then_some(size)
    }

    /// How much of the file is over: of one that goes out the bytes handed on, of one that comes
    /// in the bytes written; what was there before included.
    pub fn transferred_bytes(&self) -> u64 {
        self.0.moved.load(Ordering::Relaxed)
    }

    /// From where on it was sent: what the receiver already had.
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

/// A transfer that is over, well or not.
#[derive(Clone, Debug)]
pub struct FinishedTransfer {
    pub(crate) progress: TransferHandle,
    pub(crate) result: Result<[u8; 32], TransferError>,
}

impl FinishedTransfer {
    /// Returns the handle, with its last counts. It equals what
    /// [`Peer::offer_file`](crate::Peer::offer_file) or
    /// [`Peer::fetch_file`](crate::Peer::fetch_file) gave.
    pub fn handle(&self) -> &TransferHandle {
        &self.progress
    }

    /// The file's name, as the two sides speak of it.
    pub fn name(&self) -> &str {
        self.progress.name()
    }

    /// Whether it came in; else it went out.
    pub fn is_incoming(&self) -> bool {
        self.progress.is_incoming()
    }

    /// The BLAKE3 hash of the file, where it is whole and verified at the receiver, under its
    /// final name and on its disk; else why not.
    pub fn result(&self) -> Result<&[u8; 32], &TransferError> {
        self.result.as_ref()
    }
}

/// Why a file did not get across. What the receiver has of it stays for the next attempt.
#[derive(Clone, PartialEq, Eq)]
pub struct TransferError {
    kind: TransferErrorKind,
    detail: Box<str>,
    /// True exactly when the detail is this side's system's, and none of the peer's business.
    of_system: bool,
    by_peer: bool,
}

/// What kept a file from getting across, for code that decides by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TransferErrorKind {
    /// One side gave it up.
    Cancelled,
    /// The handler said no: the text says why.
    Refused,
    /// There is a file of that name with other content.
    Exists,
    /// What arrived is not what was sent: the hashes differ.
    HashDiffers,
    /// Too many transfers, or somebody else sends this very file just now. Try later.
    Busy,
    /// No room on the disk, or in the quota.
    NoSpace,
    /// There is no such file.
    NotFound,
    /// A name that is not allowed.
    BadName,
    /// The file changed while it was sent.
    Changed,
    /// The disk failed, or denied it.
    Disk,
    /// The peer broke the protocol of transfers.
    Protocol,
    /// Nothing came for too long.
    Expired,
    /// The connection ended.
    Disconnected,
    /// The peer cannot transfer files: it said no hello, or speaks an older version.
    Unsupported,
}

impl TransferError {
    pub(crate) fn here(kind: TransferErrorKind, detail: impl Into<Box<str>>) -> Self {
        Self { kind, detail: detail.into(), of_system: false, by_peer: false }
    }

    /// Whether the file may be another than it was when its hash was made.
    pub(crate) fn doubts_the_file(&self) -> bool {
        use TransferErrorKind as Kind;
        matches!(self.kind, Kind::HashDiffers | Kind::Changed | Kind::Disk | Kind::Protocol)
    }

    /// What an abort of the peer's says.
    pub(crate) fn of_peer(code: u16, text: &[u8]) -> Self {
        use TransferErrorKind as Kind;
        let kind = match code {
            abort_code::CANCELLED => Kind::Cancelled,
            abort_code::EXISTS => Kind::Exists,
            abort_code::PREFIX_DIFFERS | abort_code::CHANGED => Kind::Changed,
            abort_code::HASH_DIFFERS => Kind::HashDiffers,
            abort_code::BUSY => Kind::Busy,
            abort_code::NO_SPACE => Kind::NoSpace,
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

    /// The code that tells the peer.
    pub(crate) fn code(&self) -> u16 {
        use TransferErrorKind as Kind;
        match self.kind {
            Kind::Cancelled => abort_code::CANCELLED,
            Kind::Refused | Kind::Unsupported => abort_code::REFUSED,
            Kind::Exists => abort_code::EXISTS,
            Kind::HashDiffers => abort_code::HASH_DIFFERS,
            Kind::Busy => abort_code::BUSY,
            Kind::NoSpace => abort_code::NO_SPACE,
            Kind::NotFound => abort_code::NOT_FOUND,
            Kind::BadName => abort_code::BAD_NAME,
            Kind::Changed => abort_code::CHANGED,
            Kind::Disk => abort_code::DISK,
            Kind::Protocol => abort_code::PROTOCOL,
            Kind::Expired => abort_code::EXPIRED,
            Kind::Disconnected => abort_code::GOING_AWAY,
        }
    }

    /// What the peer may read of it: what this side's disk says is this side's alone.
    pub(crate) fn text_for_peer(&self) -> &str {
        if self.of_system { "" } else { &self.detail }
    }

    /// What it was.
    pub fn kind(&self) -> TransferErrorKind {
        self.kind
    }

    /// Whether the peer said so; else this side found it.
    pub fn is_by_peer(&self) -> bool {
        self.by_peer
    }

    /// Whether the same attempt may succeed later, with nothing changed but the time.
    pub fn is_passing(&self) -> bool {
        use TransferErrorKind as Kind;
        matches!(
            self.kind,
            Kind::Busy | Kind::Changed | Kind::HashDiffers | Kind::Expired | Kind::Disconnected
        )
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
            f.write_str("the other side says: ")?;
        }
        f.write_str(match self.kind {
            Kind::Cancelled => "cancelled",
            Kind::Refused => "refused",
            Kind::Exists => "there is a file of that name already, with other content",
            Kind::HashDiffers => "what arrived is not what was sent (the hashes differ)",
            Kind::Busy => "busy with it, or with too many others: try later",
            Kind::NoSpace => "no room for it",
            Kind::NotFound => "no such file",
            Kind::BadName => "not a name that a file may have there",
            Kind::Changed => "it changed while it was sent",
            Kind::Disk => "the disk failed, or denied it",
            Kind::Protocol => "the protocol of transfers was broken",
            Kind::Expired => "nothing came for too long",
            Kind::Disconnected => "the connection ended",
            Kind::Unsupported => "it cannot transfer files",
        })?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", Escaped(&*self.detail)) }
    }
}

crate::error::debug_as_display!(TransferError);

impl std::error::Error for TransferError {}

/// A line of a listing: a file that a peer has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileEntry {
    /// Its name: a relative path with `/` between its parts, checked as an offer's is.
    pub name: Box<str>,
    /// Its size in bytes.
    pub size: u64,
    /// When it was modified, in ms since 1970.
    pub modified_ms: Option<i64>,
    /// Whether it can be executed.
    pub executable: bool,
}
