//! The thread that a world belongs to.

use std::thread::{self, ThreadId};

use crate::sync::OnceLock;
use crate::turn::current_thread;

/// The owner of a world: the first thread that uses it. Every change of a world moves its random
/// numbers, so a call from another thread, which comes at an arbitrary moment, would make the run
/// depend on more than its seed.
#[derive(Debug, Default)]
pub(super) struct Owner(OnceLock<(ThreadId, Box<str>)>);

impl Owner {
    /// Makes the caller's thread the owner, if there is none yet.
    ///
    /// # Panics
    ///
    /// Panics if another thread is the owner, except while the caller's thread is panicking.
    pub(super) fn assert_current(&self, seed: u64) {
        let (owner, name) = self.0.get_or_init(|| {
            let thread = thread::current();
            (thread.id(), thread.name().unwrap_or("without a name").into())
        });
        assert!(
            *owner == current_thread() || thread::panicking(),
            "simulation, seed {seed}: this world belongs to the thread \"{name}\"; post from its \
             callbacks or scripts"
        );
    }
}
