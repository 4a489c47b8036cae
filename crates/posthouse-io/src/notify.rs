//! Waiting, on a thread outside of the port, for something that happens inside.

use std::time::{Duration, Instant};

use crate::sim::Network;
use crate::sync::{Arc, Condvar, Mutex, lock};

/// Lets a thread wait for a condition that workers bring about: change the state, then call
/// [`notify_all`](Notify::notify_all). In simulation the waiting thread drives the world.
#[derive(Clone, Debug)]
pub struct Notify {
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Counts the notifications.
    Real(Arc<(Mutex<u64>, Condvar)>),
    Simulated(Network),
}

impl Notify {
    pub(crate) fn real() -> Self {
        Self { kind: Kind::Real(Arc::default()) }
    }

    pub(crate) fn simulated(network: Network) -> Self {
        Self { kind: Kind::Simulated(network) }
    }

    /// Wakes every waiter to check its condition again.
    pub fn notify_all(&self) {
        if let Kind::Real(pair) = &self.kind {
            *lock(&pair.0) += 1;
            pair.1.notify_all();
        }
    }

    /// Waits until `ready` returns something, for at most `timeout` (for ever without one).
    ///
    /// Returns `None` if the time is over, and in simulation also if nothing can happen any more.
    pub fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        match &self.kind {
            Kind::Simulated(network) => network.run_until(timeout, ready),
            Kind::Real(pair) => {
                let (notified, again) = &**pair;
                let until = timeout.and_then(|t| Instant::now().checked_add(t));
                loop {
                    // Read before the check, so that a notification during it is not missed; and no
                    // lock is held over `ready`, which takes locks that notifiers may hold.
                    let seen = *lock(notified);
                    if let Some(value) = ready() {
                        return Some(value);
                    }
                    let waiting = |notified: &mut u64| *notified == seen;
                    match until.map(|until| until.saturating_duration_since(Instant::now())) {
                        None => drop(again.wait_while(lock(notified), waiting)),
                        Some(Duration::ZERO) => return None,
                        Some(left) => drop(again.wait_timeout_while(lock(notified), left, waiting)),
                    }
                }
            }
        }
    }
}
