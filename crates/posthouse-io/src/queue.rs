//! The queue of the layouts in which several workers take from one lane: what has been completed,
//! what other threads posted, and which sockets are to be visited.

use std::collections::VecDeque;

use crate::completions::{Completions, Figures, Letter};
use crate::operation::Completion;
use crate::sync::{Arc, Mutex, MutexGuard, lock};

/// Ends the wait of one worker, from any thread.
pub(crate) trait Ring {
    /// Rings once; one worker hears it.
    fn ring(&self);
}

/// The queue, and how to call somebody who sleeps. No other lock is taken while its own is held.
#[derive(Debug)]
pub(crate) struct WorkQueue<A> {
    alarm: A,
    state: Mutex<State>,
    figures: Mutex<Vec<Arc<Figures>>>,
}

#[derive(Debug, Default)]
struct State {
    completions: VecDeque<Completion>,
    /// From other threads.
    mail: VecDeque<Letter>,
    /// Keys of the records to visit, each at most once.
    due: VecDeque<u64>,
    /// Workers that wait, or are about to: they have seen the queue empty.
    sleepers: usize,
    /// True exactly when a wake-up has come and no step has begun since.
    notified: bool,
    /// True exactly when the alarm is rung (or about to be) and nobody has heard it yet. Whoever
    /// does looks at the queue next.
    alarmed: bool,
}

/// A piece of work.
pub(crate) enum Work {
    Completion(Completion),
    /// From another thread.
    Mail(Letter),
    Visit(u64),
}

impl State {
    fn len(&self) -> usize {
        self.completions.len() + self.mail.len() + self.due.len()
    }

    /// Whether the caller must ring the alarm for the work that is here: somebody sleeps, and
    /// nobody has been called yet.
    fn calls(&mut self) -> bool {
        let calls = self.sleepers > 0 && !self.alarmed;
        self.alarmed |= calls;
        calls
    }
}

impl<A: Ring> WorkQueue<A> {
    pub(crate) fn new(alarm: A) -> Self {
        Self { alarm, state: Mutex::default(), figures: Mutex::default() }
    }

    /// Makes a worker run a step that begins after this call.
    pub(crate) fn wake(&self) {
        self.change(|state| {
            state.notified = true;
            state.calls()
        });
    }

    /// From another thread.
    fn post(&self, letter: Letter) {
        self.change(|state| {
            state.mail.push_back(letter);
            state.calls()
        });
    }

    /// The next piece of work.
    pub(crate) fn take(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        (state.completions.pop_front().map(Work::Completion))
            .or_else(|| state.mail.pop_front().map(Work::Mail))
            .or_else(|| state.due.pop_front().map(Work::Visit))
    }

    /// Adds what has been completed, and the key of a record that is due. One piece of work the
    /// caller, a worker, takes itself, as soon as it comes back for more (a call would add a system
    /// call to each send that completes at once); for more than one it calls a sleeper.
    pub(crate) fn add(&self, done: &mut Completions, due: Option<u64>) {
        if done.is_empty() && due.is_none() {
            return;
        }
        self.change(|state| {
            done.move_to(&mut state.completions);
            state.due.extend(due);
            state.len() > 1 && state.calls()
        });
    }

    /// A worker is about to wait: true where there is nothing to do, and it may sleep. Whoever adds
    /// work comes before this look, or finds a sleeper.
    pub(crate) fn fall_asleep(&self) -> bool {
        let mut state = lock(&self.state);
        let asleep = state.len() == 0 && !state.notified;
        state.sleepers += usize::from(asleep);
        asleep
    }

    /// A worker has waited: whether it was asleep, whether it heard the alarm, and the keys of the
    /// records that are due now. A step begins, whoever was meant. One piece of work this worker
    /// takes itself; for more it calls a sleeper, who gets up and does the same.
    pub(crate) fn get_up(&self, asleep: bool, rung: bool, due: &[u64]) {
        self.change(|state| {
            state.sleepers -= usize::from(asleep);
            state.alarmed &= !rung;
            state.notified = false;
            state.due.extend(due);
            state.len() > 1 && state.calls()
        });
    }

    /// A worker ends, be it by a panic: it may have been called for work that it did not take.
    pub(crate) fn leave(&self) {
        self.change(|state| state.len() > 0 && state.calls());
    }

    /// What the workers count.
    pub(crate) fn figures(&self) -> MutexGuard<'_, Vec<Arc<Figures>>> {
        lock(&self.figures)
    }

    /// Changes the queue, and rings the alarm where `change` says so.
    fn change(&self, change: impl FnOnce(&mut State) -> bool) {
        let call = change(&mut lock(&self.state));
        if call {
            self.alarm.ring();
        }
    }
}

/// Has a completion posted from another thread, unless the port has gone.
pub(crate) fn poster<C, A>(
    core: &Arc<C>,
    queue: impl Fn(&C) -> &WorkQueue<A> + Send + 'static,
) -> impl FnOnce(Completion) + Send + 'static
where
    C: Send + Sync + 'static,
    A: Ring + 'static,
{
    let post = letters(core, queue);
    move |completion| post(Letter::Completion(completion))
}

/// Has something posted from another thread, unless the port has gone.
pub(crate) fn letters<C, A>(
    core: &Arc<C>,
    queue: impl Fn(&C) -> &WorkQueue<A> + Send + 'static,
) -> impl FnOnce(Letter) + Send + 'static
where
    C: Send + Sync + 'static,
    A: Ring + 'static,
{
    let core = Arc::downgrade(core);
    move |letter| {
        if let Some(core) = core.upgrade() {
            queue(&core).post(letter);
        }
    }
}
