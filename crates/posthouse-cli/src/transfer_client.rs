//! The client side of file transfers: one connection to a server, restored after a loss, and the
//! files that are sent or received over it. The commands `send`, `get` and `list` use it.

mod client;
mod events;
mod flags;
mod jobs;
mod report;
mod retry;
mod run;

use std::path::Path;

pub(crate) use client::{FileClient, Listing};
pub(crate) use flags::{ConnectFlags, TransferFlags};
pub(crate) use jobs::{Direction, FileJob, JobSource, NextJob};
pub(crate) use report::{ReportStyle, TransferReport};
pub(crate) use retry::RetryPolicy;
pub(crate) use run::RunEnd;

/// The directory, in a directory that receives files, with the parts of unfinished ones.
pub(crate) const PARTS_DIRECTORY: &str = ".posthouse";

/// The directory that holds a path: `.` for a bare file name.
pub(crate) fn parent_directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
