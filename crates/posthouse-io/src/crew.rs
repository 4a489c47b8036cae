//! Threads for work that blocks: a few, each started when it is first needed.

use std::collections::VecDeque;
use std::fmt;
use std::thread;

use crate::sync::{Arc, Condvar, Mutex, lock};

/// Does work that blocks, in the order in which it comes. Dropping it ends its threads, each after
/// the piece of work it is in (the system gives no way to cut one short); what has not begun is
/// forgotten.
#[derive(Debug)]
pub(crate) struct Crew {
    name: &'static str,
    /// Pieces of work that are done at a time, at most.
    threads_max: usize,
    /// Pieces of work that wait for a thread, at most.
    waiting_max: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

type Work = Box<dyn FnOnce() + Send>;

impl Crew {
    pub(crate) fn new(name: &'static str, threads_max: usize, waiting_max: usize) -> Self {
        Self { name, threads_max, waiting_max, shared: Arc::default() }
    }

    /// Has `work` done on a thread. False: it is not, for too much waits or no thread can be had.
    #[must_use]
    pub(crate) fn take_on(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let mut state = lock(&self.shared.state);
        if state.waiting.len() >= self.waiting_max || !self.has_thread(&mut state) {
            return false;
        }
        state.waiting.push_back(Box::new(work));
        drop(state);
        self.shared.changed.notify_one();
        true
    }

    /// Starts one more thread where all are busy; false where there is none at all.
    fn has_thread(&self, state: &mut State) -> bool {
        if state.idle <= state.waiting.len() && state.threads < self.threads_max {
            let shared = self.shared.clone();
            let name = format!("{}-{}", self.name, state.threads);
            match thread::Builder::new().name(name).spawn(move || shared.run()) {
                Ok(_) => state.threads += 1,
                Err(error) => tracing::warn!("no thread for {}: {error}", self.name),
            }
        }
        state.threads > 0
    }
}

impl Drop for Crew {
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
        while let Some(work) = self.next() {
            work();
        }
    }

    fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        state.idle += 1;
        while state.waiting.is_empty() && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        state.idle -= 1;
        state.waiting.pop_front()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({} threads, {} waiting)", self.threads, self.waiting.len())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    const THREADS_MAX: usize = 2;
    const WAITING_MAX: usize = 10;

    /// A crew of which every thread is occupied until the channel's other end is dropped.
    fn occupied() -> (Crew, Sender<()>) {
        let crew = Crew::new("crew", THREADS_MAX, WAITING_MAX);
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for _ in 0..THREADS_MAX {
            let (tell, released) = (tell.clone(), released.clone());
            assert!(crew.take_on(move || {
                tell.send(()).expect("the test waits");
                let _ = lock(&released).recv();
            }));
            told.recv().expect("a thread takes it");
        }
        (crew, release)
    }

    #[test]
    fn work_beyond_the_bound_is_not_taken_on_and_the_rest_is_done() {
        let (crew, release) = occupied();
        let (post, posted) = channel();
        for n in 0..WAITING_MAX {
            let post = post.clone();
            assert!(crew.take_on(move || post.send(n).expect("read")), "there is room for {n}");
        }
        assert!(!crew.take_on(|| panic!("not done")));
        drop((release, post));
        assert_eq!(posted.iter().count(), WAITING_MAX, "each is done once");
    }

    #[test]
    fn dropping_the_crew_ends_its_threads_and_forgets_what_waits() {
        let (crew, release) = occupied();
        let (post, posted) = channel::<()>();
        assert!(crew.take_on(move || post.send(()).expect("read")));
        let shared = Arc::downgrade(&crew.shared);
        drop(crew);
        assert!(posted.recv().is_err(), "what waits is dropped, not done");
        drop(release);
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }
}
