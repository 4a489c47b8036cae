//! How a thread outside the port waits for something that happens inside.

use std::time::Duration;

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
    Real(Arc<(Mutex<()>, Condvar)>),
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
            // Taken so that a waiter is either before its look at the condition or asleep.
            drop(lock(&pair.0));
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
                let until = timeout.and_then(|t| std::time::Instant::now().checked_add(t));
                let mut guard = lock(&pair.0);
                loop {
                    if let Some(value) = ready() {
                        return Some(value);
                    }
                    let Some(until) = until else {
                        guard = pair.1.wait(guard).unwrap_or_else(|e| e.into_inner());
                        continue;
                    };
                    let left = until.saturating_duration_since(std::time::Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    guard = pair.1.wait_timeout(guard, left).unwrap_or_else(|e| e.into_inner()).0;
                }
            }
        }
    }
}
