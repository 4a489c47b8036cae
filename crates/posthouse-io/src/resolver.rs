//! Name look-ups: the system's own, on a few threads of their own, because it blocks.

use std::collections::VecDeque;
use std::fmt;
use std::net::ToSocketAddrs;
use std::thread;

use crate::address::{Address, Name};
use crate::error::{Error, Failure};
use crate::operation::{Completion, Outcome};
use crate::sync::{Arc, Condvar, Mutex, lock};
use crate::token::Tag;

/// Look-ups that run at a time; each has a thread, started when it is first needed.
const THREADS_MAX: usize = 2;
/// Look-ups that wait for a thread; one more fails with [`Failure::NoBuffers`].
const WAITING_MAX: usize = 256;

/// Looks names up. Dropping it ends its threads, each after the look-up it is in (the system gives
/// no way to cut one short); look-ups that have not begun are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<LookUp>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

struct LookUp {
    tag: Tag,
    name: Name,
    post: Box<dyn FnOnce(Completion) + Send>,
}

impl Resolver {
    /// Looks `name` up and posts the completion from another thread; or gives it at once, where no
    /// look-up is needed or none can be made.
    pub(crate) fn look_up(
        &self,
        tag: Tag,
        name: Name,
        post: impl FnOnce(Completion) + Send + 'static,
    ) -> Option<Completion> {
        if let Some(address) = name.as_address() {
            return Some(terminal(tag, Outcome::Resolved(vec![address])));
        }
        let mut state = lock(&self.shared.state);
        if state.waiting.len() >= WAITING_MAX || !self.has_thread(&mut state) {
            return Some(terminal(tag, Outcome::Failed(Error::new(Failure::NoBuffers))));
        }
        state.waiting.push_back(LookUp { tag, name, post: Box::new(post) });
        drop(state);
        self.shared.changed.notify_one();
        None
    }

    /// Starts one more thread where all are busy; false where there is none at all.
    fn has_thread(&self, state: &mut State) -> bool {
        if state.idle <= state.waiting.len() && state.threads < THREADS_MAX {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name("posthouse-names".to_owned());
            match thread.spawn(move || shared.run()) {
                Ok(_) => state.threads += 1,
                Err(error) => tracing::warn!("no thread for name look-ups: {error}"),
            }
        }
        state.threads > 0
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        let forgotten = std::mem::take(&mut state.waiting);
        drop(state);
        drop(forgotten);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        while let Some(LookUp { tag, name, post }) = self.next() {
            post(terminal(tag, addresses_of(&name)));
        }
    }

    fn next(&self) -> Option<LookUp> {
        let mut state = lock(&self.state);
        state.idle += 1;
        while state.waiting.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.idle -= 1;
        state.waiting.pop_front()
    }
}

fn addresses_of(name: &Name) -> Outcome {
    let found = (&*name.host, name.port).to_socket_addrs();
    let code = found.as_ref().err().and_then(std::io::Error::raw_os_error).unwrap_or(0);
    let mut addresses: Vec<Address> = found.into_iter().flatten().map(Address::from).collect();
    // The system names an address once for each of its sources.
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    if addresses.is_empty() {
        return Outcome::Failed(Error { failure: Failure::NameNotFound, code });
    }
    Outcome::Resolved(addresses)
}

fn terminal(tag: Tag, outcome: Outcome) -> Completion {
    Completion { tag, more: false, outcome }
}

impl fmt::Debug for LookUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LookUp({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    fn localhost() -> Name {
        Name { host: "localhost".into(), port: 1 }
    }

    /// Occupies every thread of the resolver until the channel's other end is dropped.
    fn occupy(resolver: &Resolver) -> Sender<()> {
        let (release, released) = channel();
        let released: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for _ in 0..THREADS_MAX {
            let (tell, released) = (tell.clone(), released.clone());
            let at_once = resolver.look_up(Tag(0), localhost(), move |_| {
                tell.send(()).expect("the test waits");
                let _ = lock(&released).recv();
            });
            assert!(at_once.is_none());
            told.recv().expect("a thread takes it");
        }
        release
    }

    #[test]
    fn look_ups_beyond_the_bound_fail_at_once_and_the_others_are_made() {
        let resolver = Resolver::default();
        let release = occupy(&resolver);
        let (post, posted) = channel();
        for n in 0..WAITING_MAX as u64 {
            let post = post.clone();
            let at_once =
                resolver.look_up(Tag(n), localhost(), move |done| post.send(done).expect("read"));
            assert!(at_once.is_none(), "there is room for {n}");
        }
        let one_more = resolver.look_up(Tag(999), localhost(), |_| panic!("not looked up"));
        let Some(Completion { tag: Tag(999), more: false, outcome }) = one_more else {
            panic!("a completion at once");
        };
        assert!(matches!(outcome, Outcome::Failed(e) if e.failure == Failure::NoBuffers));
        drop((release, post));
        assert_eq!(posted.iter().count(), WAITING_MAX, "each is posted once");
    }

    #[test]
    fn dropping_the_resolver_ends_its_threads_and_forgets_what_waits() {
        let resolver = Resolver::default();
        let release = occupy(&resolver);
        let (post, posted) = channel::<()>();
        resolver.look_up(Tag(1), localhost(), move |_| post.send(()).expect("read"));
        let shared = Arc::downgrade(&resolver.shared);
        drop(resolver);
        assert!(posted.recv().is_err(), "what waits is dropped, not looked up");
        drop(release);
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
