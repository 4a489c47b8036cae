//! What is carried, and in which direction.

use std::time::Instant;

use posthouse::Directory;

/// Which way files go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From here to the server.
    Send,
    /// From the server to here.
    Get,
}

impl Way {
    /// What has been done with a file that got across.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Way::Send => "sent",
            Way::Get => "received",
        }
    }
}

/// One file to carry.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    /// The directory here.
    pub(crate) directory: Directory,
    /// The file beneath it.
    pub(crate) path: Box<str>,
    /// Its name, as the two sides speak of it.
    pub(crate) name: Box<str>,
}

/// What comes next of a manifest.
#[derive(Debug)]
pub(crate) enum Next {
    Parcel(Parcel),
    /// Something is left out, as it should be: what, and why.
    Skipped(String, &'static str),
    /// Something should be carried and cannot: what, and why.
    Failed(String, String),
    /// Nothing before then.
    At(Instant),
    /// Nothing any more.
    End,
}

/// What there is to carry, one parcel after the other, so that not all of them are held at once.
pub(crate) trait Manifest {
    fn next(&mut self, now: Instant) -> Next;

    /// How many parcels there are still to come, as far as that is known.
    fn left(&self) -> usize;

    /// A parcel is over, well or not.
    fn over(&mut self, parcel: &Parcel) {
        let _ = parcel;
    }
}
