//! Threads for work that blocks: a few, each started when it is first needed.
//!
//! Work can hang (a file server is gone), and a few threads that all hang would let nothing be done
//! any more, for nobody. So while work waits somebody looks now and then whether any ends, and
//! where none does starts one thread more, up to a bound.

use std::collections::VecDeque;
use std::fmt;
use std::sync::PoisonError;
use std::thread;
use std::time::Duration;

use crate::sync::{Arc, Condvar, Mutex, lock};

/// Does work that blocks, in the order in which it comes. Dropping it ends its threads, each after
/// the piece of work it is in (the system gives no way to cut one short); what has not begun is
/// forgotten, by one of them: to drop it may block, too.
#[derive(Debug)]
pub(crate) struct Crew {
    shared: Arc<Shared>,
}

/// How many do how much.
#[derive(Debug)]
pub(crate) struct Bounds {
    /// What its threads are called.
    pub(crate) name: &'static str,
    /// Pieces of work that are done at a time, at most.
    pub(crate) threads_max: usize,
    /// The same where work hangs.
    pub(crate) threads_max_hung: usize,
    /// Work hangs when so long none of what is done ends.
    pub(crate) patience: Duration,
    /// Pieces of work that wait for a thread, at most.
    pub(crate) waiting_max: usize,
}

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    state: Mutex<State>,
    changed: Condvar,
    /// Rung when the crew goes, for who watches.
    gone: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Work>,
    threads: usize,
    /// Threads that wait for work.
    idle: usize,
    /// Pieces of work that have ended.
    ended: u64,
    /// True exactly while somebody watches whether work ends.
    watched: bool,
    closed: bool,
}

type Work = Box<dyn FnOnce() + Send>;

impl Crew {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let (state, changed, gone) = Default::default();
        Self { shared: Arc::new(Shared { bounds, state, changed, gone }) }
    }

    /// Has `work` done on a thread. False: it is not, for too much waits or no thread can be had.
    #[must_use]
    pub(crate) fn take_on(&self, work: impl FnOnce() + Send + 'static) -> bool {
        let shared = &self.shared;
        let mut state = lock(&shared.state);
        if state.waiting.len() >= shared.bounds.waiting_max {
            return false;
        }
        if state.idle <= state.waiting.len() && state.threads < shared.bounds.threads_max {
            shared.start_thread(&mut state);
        }
        if state.threads == 0 {
            return false;
        }
        state.waiting.push_back(Box::new(work));
        if state.idle < state.waiting.len() && !state.watched {
            shared.start_watching(&mut state);
        }
        drop(state);
        shared.changed.notify_one();
        true
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        drop(state);
        self.shared.changed.notify_all();
        self.shared.gone.notify_all();
    }
}

impl Shared {
    fn start_thread(self: &Arc<Self>, state: &mut State) {
        let shared = self.clone();
        let name = format!("{}-{}", self.bounds.name, state.threads);
        match thread::Builder::new().name(name).spawn(move || shared.run()) {
            Ok(_) => state.threads += 1,
            Err(error) => tracing::warn!("no thread for {}: {error}", self.bounds.name),
        }
    }

    fn run(&self) {
        while let Some(work) = self.next() {
            work();
            lock(&self.state).ended += 1;
        }
    }

    /// The next piece of work. `None`: the crew goes, or has threads enough without this one.
    fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        let spare = state.threads > self.bounds.threads_max && state.idle > 0;
        if !spare {
            state.idle += 1;
            while state.waiting.is_empty() && !state.closed {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.idle -= 1;
            if !state.closed {
                return state.waiting.pop_front();
            }
        }
        state.threads -= 1;
        let forgotten =
            if state.closed { std::mem::take(&mut state.waiting) } else { VecDeque::new() };
        drop(state);
        drop(forgotten);
        None
    }

    fn start_watching(self: &Arc<Self>, state: &mut State) {
        let shared = self.clone();
        let name = format!("watch-{}", self.bounds.name);
        // Without it nothing is worse than before: the next piece of work tries again.
        state.watched = thread::Builder::new().name(name).spawn(move || shared.watch()).is_ok();
    }

    /// While work waits: starts one more thread whenever none of it has ended for some time.
    fn watch(self: &Arc<Self>) {
        let Bounds { name, threads_max_hung, patience, .. } = self.bounds;
        let mut state = lock(&self.state);
        while !state.closed && !state.waiting.is_empty() {
            let ended = state.ended;
            let waited = self.gone.wait_timeout_while(state, patience, |state| !state.closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            let hangs = state.ended == ended && !state.waiting.is_empty() && !state.closed;
            if hangs && state.threads < threads_max_hung {
                let threads = state.threads;
                tracing::warn!("all {threads} threads of {name} hang in their work: one more");
                self.start_thread(&mut state);
            }
        }
        state.watched = false;
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
        occupied_with(Duration::MAX)
    }

    fn occupied_with(patience: Duration) -> (Crew, Sender<()>) {
        let crew = Crew::new(Bounds {
            name: "crew",
            threads_max: THREADS_MAX,
            threads_max_hung: THREADS_MAX + 2,
            patience,
            waiting_max: WAITING_MAX,
        });
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
        drop(release);
        assert!(posted.recv().is_err(), "what waits is dropped, not done");
        while shared.strong_count() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn work_behind_work_that_hangs_is_done_and_the_threads_go_when_they_are_not_needed() {
        let (crew, release) = occupied_with(Duration::from_millis(1));
        let (post, posted) = channel();
        for n in 0..WAITING_MAX {
            let post = post.clone();
            assert!(crew.take_on(move || post.send(n).expect("read")));
        }
        drop(post);
        assert_eq!(posted.iter().count(), WAITING_MAX, "though all the others hang");
        let threads = || lock(&crew.shared.state).threads;
        assert!((THREADS_MAX + 1..=THREADS_MAX + 2).contains(&threads()), "{}", threads());
        drop(release);
        while threads() > THREADS_MAX {
            thread::yield_now();
        }
    }

    #[test]
    fn however_much_hangs_there_are_no_more_threads_than_there_may_be() {
        let (crew, release) = occupied_with(Duration::from_millis(1));
        let released = Arc::new(Mutex::new(()));
        let held = lock(&released);
        let (tell, told) = channel();
        for _ in 0..WAITING_MAX {
            let (tell, released) = (tell.clone(), released.clone());
            assert!(crew.take_on(move || {
                tell.send(()).expect("the test waits");
                drop(lock(&released));
            }));
        }
        told.recv().expect("a third thread");
        told.recv().expect("a fourth");
        assert_eq!(lock(&crew.shared.state).threads, THREADS_MAX + 2);
        drop((held, release, tell));
        assert_eq!(told.iter().count(), WAITING_MAX - 2, "the rest when they go on");
    }
}
