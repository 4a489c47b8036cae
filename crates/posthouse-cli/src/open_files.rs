//! The limit of open files: a connection takes one.

/// Raises the soft limit to the hard one, which any process may. Many systems give 1024 to begin
/// with, which is far fewer than the connections that one process carries.
#[cfg(unix)]
pub(crate) fn raise_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit { current: limit.maximum, ..limit };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
    }
}

/// Windows has no such limit: a process may have 16 million handles.
#[cfg(windows)]
pub(crate) fn raise_limit() {}
