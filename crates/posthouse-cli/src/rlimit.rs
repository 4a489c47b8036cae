//! The limit of open files of the process: each connection takes one.

/// Raises the soft limit of open files to the hard limit, which any process may do. Many systems
/// start with a soft limit of 1024, far fewer than the connections that one process can hold.
#[cfg(unix)]
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// Does nothing: Windows has no such limit. A process can have 16 million handles.
#[cfg(windows)]
pub(crate) fn raise_open_files() {}
