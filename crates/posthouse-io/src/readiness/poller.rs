//! The system's queue of readiness events.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::native::lane_remote::Waker;
use crate::native::wake::Wake as _;

/// The key of the waker's events.
const WAKER: u64 = u64::MAX;

/// An epoll instance. Everything in it is edge-triggered and registered once for its life.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Opens a poller with its waker, and checks that a wake-up arrives.
pub(super) fn open() -> Result<(Poller, Waker), Errno> {
    let poller = Poller { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? };
    let waker = Waker::new()?;
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    poller.register(waker.descriptor(), WAKER, flags)?;

    // A sandbox can allow the calls above and refuse the wait, so it is tried before a worker
    // relies on it.
    waker.wake();
    let mut woken = false;
    poller.try_wait::<1>(Some(Duration::from_secs(1)), |event| {
        woken |= matches!(event, Event::Waker);
    })?;
    if woken { Ok((poller, waker)) } else { Err(Errno::NOSYS) }
}

/// An event of a wait.
pub(super) enum Event {
    Waker,
    Socket { key: u64, readiness: Readiness },
}

/// The readiness of a socket: a set of facts. An event reports some facts, and a socket collects
/// them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readiness(u8);

impl Readiness {
    /// There may be something to read: data, a peer, the end of the stream, an error.
    pub(super) const READABLE: Self = Self(1);
    /// There may be room to send, a connect may have ended, or an error waits to be reported.
    pub(super) const WRITABLE: Self = Self(2);
    /// Something follows the data that is queued now (the end of the stream, an error) or divides
    /// it (an urgent mark). So a short read does not mean that nothing is left.
    pub(super) const NOT_ONLY_DATA: Self = Self(4);
    /// The peer has ended its stream.
    pub(super) const ENDED: Self = Self(8);
    /// The connection may have failed, or both streams have ended.
    pub(super) const HUNG_UP: Self = Self(16);

    pub(super) fn has(self, fact: Self) -> bool {
        self.0 & fact.0 != 0
    }

    pub(super) fn add(&mut self, facts: Self) {
        self.0 |= facts.0;
    }

    pub(super) fn remove(&mut self, fact: Self) {
        self.0 &= !fact.0;
    }
}

impl Poller {
    /// Registers a socket. The first event reports its present state.
    pub(super) fn add(&self, fd: &OwnedFd, key: u64) -> Result<(), Errno> {
        use epoll::EventFlags as E;
        assert_ne!(key, WAKER, "a socket with the waker's key");
        let flags = E::IN | E::OUT | E::RDHUP | E::PRI | E::ET;
        self.register(fd, key, flags)
    }

    fn register(&self, fd: &OwnedFd, key: u64, flags: epoll::EventFlags) -> Result<(), Errno> {
        let added = epoll::add(&self.epoll, fd.as_fd(), epoll::EventData::new_u64(key), flags);
        // `fs.epoll.max_user_watches` is reached; in other calls this number means a full disk.
        added.map_err(|errno| if errno == Errno::NOSPC { Errno::NOBUFS } else { errno })
    }

    /// Waits for events, at most `BATCH`, for at most `limit` (without a limit if `None`). A signal
    /// ends the wait early.
    pub(super) fn wait<const BATCH: usize>(
        &self,
        limit: Option<Duration>,
        each: impl FnMut(Event),
    ) {
        self.try_wait::<BATCH>(limit, each).expect("a poller that worked once continues to work");
    }

    fn try_wait<const BATCH: usize>(
        &self,
        limit: Option<Duration>,
        mut each: impl FnMut(Event),
    ) -> Result<(), Errno> {
        // A limit that the system's clock cannot express is treated as no limit.
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let mut room = [const { MaybeUninit::<epoll::Event>::uninit() }; BATCH];
        match epoll::wait(&self.epoll, &mut room[..], limit.as_ref()) {
            Ok((events, _)) => events.iter().for_each(|event| each(Event::from(*event))),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

impl From<epoll::Event> for Event {
    fn from(event: epoll::Event) -> Self {
        use epoll::EventFlags as E;
        let key = event.data;
        let flags = event.flags;
        if key.u64() == WAKER {
            return Event::Waker;
        }
        let mut readiness = Readiness::default();
        if flags.intersects(E::RDHUP | E::HUP | E::ERR | E::PRI) {
            readiness.add(Readiness::NOT_ONLY_DATA);
            readiness.add(Readiness::READABLE);
        }
        if flags.contains(E::RDHUP) {
            readiness.add(Readiness::ENDED);
        }
        if flags.intersects(E::HUP | E::ERR) {
            readiness.add(Readiness::HUNG_UP);
        }
        if flags.contains(E::IN) {
            readiness.add(Readiness::READABLE);
        }
        if flags.intersects(E::OUT | E::HUP | E::ERR) {
            readiness.add(Readiness::WRITABLE);
        }
        Event::Socket { key: key.u64(), readiness }
    }
}
