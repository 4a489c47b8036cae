//! The places of accepted connections: how many each address has, and the budget of the peers that
//! have not proved the key, or have not been admitted.
//!
//! If the budget is full, the address prefix with the most unadmitted peers loses its oldest. One
//! host that connects without end therefore evicts its own connections, and no other's; the oldest
//! of all would be a peer that needs a round trip for its proof.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use crate::address_prefix::AddressPrefix;
use crate::id::PeerId;
use crate::sync::{AtomicUsize, Mutex, Ordering, lock};

/// The number of evicted connections that may be ending, if the budget is smaller: about as many as
/// a worker accepts in one turn of a flood.
const MIN_EVICTED: usize = 1024;

/// The bounds of the places.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The maximum number of unadmitted peers.
    pub(crate) max_unadmitted: usize,
    /// The maximum number of connections from one address prefix; 0: no limit.
    pub(crate) max_per_address: usize,
}

impl Bounds {
    /// Returns the maximum number of evicted connections that have not ended. A worker ends them
    /// after the accepts of its turn.
    pub(crate) fn max_evicted(self) -> usize {
        self.max_unadmitted.max(MIN_EVICTED)
    }
}

/// The place of an unadmitted peer in the budget. Later peers have greater numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(NonZeroU64);

/// A peer that was accepted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newcomer {
    pub(crate) prefix: AddressPrefix,
    /// Whether the peer must prove the key, complete a handshake, say hello or be admitted.
    pub(crate) is_unadmitted: bool,
    pub(crate) is_loopback: bool,
}

/// A place of a newcomer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: PeerId,
    /// The place in the budget, if the peer is not admitted at once.
    pub(crate) ticket: Option<Ticket>,
}

/// A connection whose place was given to another. Its strand has to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Evicted {
    pub(crate) id: PeerId,
    pub(crate) prefix: AddressPrefix,
    /// The option whose bound was reached.
    pub(crate) bound: &'static str,
}

/// A connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) id: PeerId,
    /// The address of the peer; `None` if this side connected.
    pub(crate) accepted_from: Option<AddressPrefix>,
    /// The ticket of a peer that was never admitted.
    pub(crate) ticket: Option<Ticket>,
}

/// The places of an endpoint's accepted connections. The lock is taken when a peer is accepted,
/// admitted and gone, never for a message.
#[derive(Debug)]
pub(crate) struct Admissions {
    bounds: Bounds,
    state: Mutex<State>,
    /// The number of evicted connections that have not ended. They do not count in
    /// `max_connections`.
    evicted: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    by_prefix: BTreeMap<AddressPrefix, Counts>,
    /// The unadmitted peers, by prefix and age.
    unadmitted: BTreeMap<(AddressPrefix, Ticket), PeerId>,
    /// The prefixes that have unadmitted peers, in the order in which they lose them.
    ranks: BTreeSet<Rank>,
    last_ticket: u64,
}

/// The connections of one prefix.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// All accepted ones, without the evicted.
    all: usize,
    unadmitted: usize,
}

/// The rank of a prefix: the number of its unadmitted peers, and then the age of the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    unadmitted: usize,
    oldest: Reverse<Ticket>,
    prefix: AddressPrefix,
}

impl Admissions {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, state: Mutex::default(), evicted: AtomicUsize::new(0) }
    }

    /// Gives a newcomer a place, with an id from `allocate`, which gets the number of connections
    /// that do not count. Returns the option whose bound was reached if there is no place. Others
    /// may have lost theirs in either case, and are added to `evicted`.
    pub(crate) fn accept(
        &self,
        newcomer: Newcomer,
        evicted: &mut Vec<Evicted>,
        allocate: impl Fn(usize) -> Option<PeerId>,
    ) -> Result<Place, &'static str> {
        const PER_ADDRESS: &str = "max_connections_per_address";
        let Newcomer { prefix, is_unadmitted, is_loopback } = newcomer;
        let mut state = lock(&self.state);
        let counts = state.by_prefix.get(&prefix).copied().unwrap_or_default();
        let max_per_address = self.bounds.max_per_address;
        if !is_loopback && max_per_address > 0 && counts.all >= max_per_address {
            // Of the same address the newest peers stay, too.
            let own = (counts.unadmitted > 0).then_some(prefix);
            self.evict(&mut state, own.ok_or(PER_ADDRESS)?, (own, PER_ADDRESS), evicted)?;
        }
        let more = is_unadmitted.then_some(prefix);
        if is_unadmitted
            && state.unadmitted.len() >= self.bounds.max_unadmitted
            && let Some(largest) = state.largest_with(more)
        {
            self.evict(&mut state, largest, (more, "max_unadmitted"), evicted)?;
        }
        let id = self.allocate(&mut state, more, evicted, allocate).ok_or("max_connections")?;
        state.by_prefix.entry(prefix).or_default().all += 1;
        let ticket = is_unadmitted.then(|| state.add(prefix, id));
        Ok(Place { id, ticket })
    }

    /// Allocates the slot of an outgoing connection. An unadmitted peer may lose its place for it.
    pub(crate) fn connect(
        &self,
        evicted: &mut Vec<Evicted>,
        allocate: impl Fn(usize) -> Option<PeerId>,
    ) -> Option<PeerId> {
        self.allocate(&mut lock(&self.state), None, evicted, allocate)
    }

    fn allocate(
        &self,
        state: &mut State,
        newcomer: Option<AddressPrefix>,
        evicted: &mut Vec<Evicted>,
        allocate: impl Fn(usize) -> Option<PeerId>,
    ) -> Option<PeerId> {
        let spare = || self.evicted.load(Ordering::SeqCst);
        if let Some(id) = allocate(spare()) {
            return Some(id);
        }
        let largest = state.largest_with(newcomer)?;
        self.evict(state, largest, (newcomer, "max_connections"), evicted).ok()?;
        allocate(spare())
    }

    /// Takes the place of the oldest unadmitted peer of a prefix, for a newcomer. Fails if too many
    /// evicted connections have not ended, because peers come faster than the workers end them. A
    /// newcomer of the same prefix fails earlier, so that a flood cannot use up what peers of other
    /// prefixes need.
    fn evict(
        &self,
        state: &mut State,
        prefix: AddressPrefix,
        (newcomer, bound): (Option<AddressPrefix>, &'static str),
        evicted: &mut Vec<Evicted>,
    ) -> Result<(), &'static str> {
        let max = self.bounds.max_evicted();
        let max = if newcomer == Some(prefix) { max / 2 } else { max };
        if self.evicted.load(Ordering::SeqCst) >= max {
            return Err(bound);
        }
        if let Some(ticket) = state.oldest(prefix)
            && let Some(id) = state.remove(prefix, ticket)
        {
            state.leave(prefix);
            self.evicted.fetch_add(1, Ordering::SeqCst);
            evicted.push(Evicted { id, prefix, bound });
        }
        Ok(())
    }

    /// Admits a peer: its connection leaves the budget. Returns `false` if the peer was evicted.
    pub(crate) fn admit(&self, prefix: AddressPrefix, ticket: Ticket) -> bool {
        lock(&self.state).remove(prefix, ticket).is_some()
    }

    /// Returns whether a peer has its place in the budget, so that it was not evicted.
    pub(crate) fn holds(&self, prefix: AddressPrefix, ticket: Ticket) -> bool {
        lock(&self.state).unadmitted.contains_key(&(prefix, ticket))
    }

    /// Takes the place of a connection that has ended, if it has one.
    pub(crate) fn release(&self, ended: Ended) {
        let Some(prefix) = ended.accepted_from else { return };
        let mut state = lock(&self.state);
        match ended.ticket {
            Some(ticket) if state.remove(prefix, ticket).is_none() => {
                self.evicted.fetch_sub(1, Ordering::SeqCst);
            }
            _ => state.leave(prefix),
        }
    }

    /// Returns the number of unadmitted peers.
    pub(crate) fn unadmitted(&self) -> usize {
        lock(&self.state).unadmitted.len()
    }
}

impl State {
    /// Returns the prefix with the most unadmitted peers, if one more of `newcomer` comes.
    fn largest_with(&self, newcomer: Option<AddressPrefix>) -> Option<AddressPrefix> {
        let with_one_more = |prefix| {
            let rank = self.rank(prefix)?;
            Some(Rank { unadmitted: rank.unadmitted + 1, ..rank })
        };
        let grown = newcomer.and_then(with_one_more);
        Some(self.ranks.last().copied().max(grown)?.prefix)
    }

    fn oldest(&self, prefix: AddressPrefix) -> Option<Ticket> {
        let first = (prefix, Ticket(NonZeroU64::MIN));
        let ((at, ticket), _) = self.unadmitted.range(first..).next()?;
        (*at == prefix).then_some(*ticket)
    }

    /// Returns the rank of a prefix that has unadmitted peers.
    fn rank(&self, prefix: AddressPrefix) -> Option<Rank> {
        let oldest = Reverse(self.oldest(prefix)?);
        let unadmitted = self.by_prefix.get(&prefix)?.unadmitted;
        Some(Rank { unadmitted, oldest, prefix })
    }

    /// Changes the unadmitted peers of a prefix, and keeps its rank.
    fn change<T>(&mut self, prefix: AddressPrefix, change: impl FnOnce(&mut Self) -> T) -> T {
        if let Some(rank) = self.rank(prefix) {
            self.ranks.remove(&rank);
        }
        let result = change(self);
        self.ranks.extend(self.rank(prefix));
        result
    }

    fn add(&mut self, prefix: AddressPrefix, id: PeerId) -> Ticket {
        let ticket = Ticket(NonZeroU64::MIN.saturating_add(self.last_ticket));
        self.last_ticket += 1;
        self.change(prefix, |state| {
            state.by_prefix.entry(prefix).or_default().unadmitted += 1;
            state.unadmitted.insert((prefix, ticket), id);
        });
        ticket
    }

    /// Removes an unadmitted peer. `None` if it was removed before.
    fn remove(&mut self, prefix: AddressPrefix, ticket: Ticket) -> Option<PeerId> {
        self.change(prefix, |state| {
            let id = state.unadmitted.remove(&(prefix, ticket))?;
            state.by_prefix.entry(prefix).or_default().unadmitted -= 1;
            Some(id)
        })
    }

    /// Counts one connection fewer of a prefix.
    fn leave(&mut self, prefix: AddressPrefix) {
        if let Some(counts) = self.by_prefix.get_mut(&prefix) {
            counts.all -= 1;
            if counts.all == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests;
