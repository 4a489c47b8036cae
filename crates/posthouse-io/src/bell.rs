//! How a thread outside the port waits for something that happens inside.

use std::time::{Duration, Instant};

use crate::sim::Network;
use crate::sync::{Arc, Condvar, Mutex, lock};

/// Lets a caller's thread wait until a condition holds that workers bring about: change the state,
/// then [`ring`](Bell::ring). In simulation the waiting thread is the one that drives the world.
#[derive(Clone, Debug)]
pub struct Bell {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// How often it was rung.
    Real(Arc<(Mutex<u64>, Condvar)>),
    Simulated(Network),
}

impl Bell {
    pub(crate) fn real() -> Self {
        Self { kind: Kind::Real(Arc::default()) }
    }

    pub(crate) fn simulated(network: Network) -> Self {
        Self { kind: Kind::Simulated(network) }
    }

    /// Wakes every waiter to look at its condition again.
    pub fn ring(&self) {
        if let Kind::Real(pair) = &self.kind {
            *lock(&pair.0) += 1;
            pair.1.notify_all();
        }
    }

    /// Waits until `ready` gives something, for at most `timeout` (for ever without one).
    ///
    /// `None`: the time is over; in simulation also: nothing can happen any more.
    pub fn wait<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        match &self.kind {
            Kind::Simulated(network) => network.run_until(timeout, ready),
            Kind::Real(pair) => {
                let (rung, again) = &**pair;
                let until = timeout.and_then(|t| Instant::now().checked_add(t));
                loop {
                    // Counted before the look, so that a ring during it is not slept through; and
                    // no lock is held over `ready`, which takes locks that ringers may hold.
                    let seen = *lock(rung);
                    if let Some(value) = ready() {
                        return Some(value);
                    }
                    let asleep = |rung: &mut u64| *rung == seen;
                    match until.map(|until| until.saturating_duration_since(Instant::now())) {
                        None => drop(again.wait_while(lock(rung), asleep)),
                        Some(Duration::ZERO) => return None,
                        Some(left) => drop(again.wait_timeout_while(lock(rung), left, asleep)),
                    }
                }
            }
        }
    }
}
