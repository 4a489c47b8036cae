//! How other threads reach a pinned lane: completions that they post, and wake-ups.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::completions::{Figures, Letter};
use crate::operation::Completion;
use crate::queue::Ring;
use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, lock};

/// What other threads touch of a lane.
#[derive(Debug)]
pub(crate) struct Door {
    /// One of [`RUNNING`], [`SLEEPING`], [`NOTIFIED`].
    state: AtomicUsize,
    alarm: Alarm,
    /// From other threads.
    mail: Mutex<Vec<Letter>>,
    pub(crate) figures: Arc<Figures>,
}

const RUNNING: usize = 0;
/// The worker waits, or is about to.
const SLEEPING: usize = 1;
/// Woken, and not yet aware of it.
const NOTIFIED: usize = 2;

impl Door {
    pub(crate) fn new(alarm: Alarm) -> Self {
        let (state, mail) = (AtomicUsize::new(RUNNING), Mutex::default());
        Self { state, alarm, mail, figures: Arc::default() }
    }

    /// Makes the worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        if self.state.swap(NOTIFIED, Ordering::AcqRel) == SLEEPING {
            self.alarm.ring();
        }
    }

    fn post(&self, letter: Letter) {
        lock(&self.mail).push(letter);
        self.wake();
    }

    /// Posts a completion from another thread, unless the lane has gone.
    pub(crate) fn poster(door: &Arc<Self>) -> impl FnOnce(Completion) + Send + 'static {
        let post = Self::letters(door);
        move |completion| post(Letter::Completion(completion))
    }

    /// Posts from another thread, unless the lane has gone.
    pub(crate) fn letters(door: &Arc<Self>) -> impl FnOnce(Letter) + Send + 'static {
        let door = Arc::downgrade(door);
        move |letter| {
            if let Some(door) = door.upgrade() {
                door.post(letter);
            }
        }
    }

    /// False where a wake-up has come since the last sleep: there must be a step before the next.
    pub(crate) fn fall_asleep(&self) -> bool {
        let (ok, err) = (Ordering::AcqRel, Ordering::Relaxed);
        self.state.compare_exchange(RUNNING, SLEEPING, ok, err).is_ok()
    }

    /// Whether a wake-up has come. What follows sees what its caller did before it.
    pub(crate) fn get_up(&self) -> bool {
        self.state.load(Ordering::Relaxed) != RUNNING
            && self.state.swap(RUNNING, Ordering::AcqRel) == NOTIFIED
    }

    /// Takes what other threads posted.
    pub(crate) fn take_mail(&self, mut each: impl FnMut(Letter)) {
        lock(&self.mail).drain(..).for_each(&mut each);
    }

    pub(crate) fn alarm(&self) -> &Alarm {
        &self.alarm
    }
}

/// Ends a wait, from any thread: an eventfd that the wait looks at, too.
#[derive(Debug)]
pub(crate) struct Alarm {
    eventfd: OwnedFd,
}

impl Alarm {
    pub(crate) fn new() -> Result<Self, Errno> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { eventfd })
    }

    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.eventfd
    }
}

impl Ring for Alarm {
    /// Each ring is an edge, so nobody has to read the counter back. It would take 2^64 rings to
    /// fill it, hence an error cannot happen.
    fn ring(&self) {
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}
