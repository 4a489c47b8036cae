//! A budget that connections take from in turn: memory for files, places of open files, places of
//! walks.
//!
//! A connection that finds no room waits. When room returns, the address prefixes that wait get it
//! one after the other, and within a prefix the connections in the order in which they came. A
//! prefix has at most a share of the budget, so that one host cannot hold all of it. A connection
//! that was granted room is notified, and collects it. If it ends instead, the next one gets the
//! room.

use std::collections::{BTreeMap, VecDeque};

use crate::address_prefix::AddressPrefix;
use crate::id::PeerId;
use crate::sync::{Arc, Mutex, lock};

/// The part of a budget that one address prefix may hold: a quarter.
const SHARES: u64 = 4;

/// A budget of bytes. Whoever holds nothing may take any amount once it is their turn, so that a
/// small budget makes everybody slow and stops nobody.
pub(crate) struct FairBudget {
    max: u64,
    state: Mutex<State>,
    /// Notifies a connection that waited: it can collect what was granted.
    notify: Box<dyn Fn(PeerId) + Send + Sync>,
}

#[derive(Default)]
struct State {
    used: u64,
    /// The number of grants so far.
    grants: u64,
    by_prefix: BTreeMap<AddressPrefix, Holder>,
    /// The prefixes that wait and are below their share, in the order of their turns.
    turns: VecDeque<AddressPrefix>,
}

/// The part of one prefix.
#[derive(Default)]
struct Holder {
    used: u64,
    /// A number that grows with each grant to this prefix. It begins with the number of all grants,
    /// so that a prefix that was forgotten does not get an earlier number again.
    grants: u64,
    /// The connections that wait, in their order.
    waiting: VecDeque<Waiter>,
    /// The amounts that were granted and not collected. They are in use.
    granted: BTreeMap<PeerId, u64>,
    /// Whether the prefix is among those whose turn comes.
    has_turn: bool,
}

/// A connection that waits.
struct Waiter {
    peer: PeerId,
    /// The amount that it needs.
    amount: u64,
    /// Whether it was told to look elsewhere, and has not looked yet.
    is_told: bool,
}

/// The grants for which others wait, as of a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GrantsAwaited {
    /// The number of grants to all connections so far, if others wait for their turn.
    of_all: Option<u64>,
    /// The number of grants to the prefix so far, if others wait for its share.
    of_share: Option<u64>,
}

impl GrantsAwaited {
    /// Returns whether others wait, and none of them has had its turn since an earlier moment.
    pub(crate) fn stands_still_since(self, before: Self) -> bool {
        self.of_all.is_some() && self.of_all == before.of_all
            || self.of_share.is_some() && self.of_share == before.of_share
    }
}

/// The amount that one connection has taken from a budget. The drop gives it back and stops
/// waiting.
pub(crate) struct Lease {
    budget: Arc<FairBudget>,
    prefix: AddressPrefix,
    peer: PeerId,
    amount: u64,
    /// True exactly when the connection waits, or has not collected what was granted.
    is_waiting: bool,
}

impl FairBudget {
    /// Makes a budget of `max` bytes. `notify` is called for those that waited.
    pub(crate) fn new(max: u64, notify: impl Fn(PeerId) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { max, state: Mutex::default(), notify: Box::new(notify) })
    }

    /// Returns the amount in use.
    pub(crate) fn used(&self) -> u64 {
        lock(&self.state).used
    }

    /// Returns the part of the budget that one address prefix may hold.
    pub(crate) fn share(&self) -> u64 {
        self.max / SHARES
    }

    /// Notifies everybody who waits: they may find what they wait for elsewhere. A connection that
    /// has not [collected](Lease::collect) since the last time is not notified again.
    pub(crate) fn notify_waiting(&self) {
        let mut state = lock(&self.state);
        let waiting = state.by_prefix.values_mut().flat_map(|holder| &mut holder.waiting);
        let tell = |waiter: &mut Waiter| {
            let was_told = std::mem::replace(&mut waiter.is_told, true);
            (!was_told).then_some(waiter.peer)
        };
        let peers: Vec<PeerId> = waiting.filter_map(tell).collect();
        drop(state);
        for peer in peers {
            (self.notify)(peer);
        }
    }

    /// Takes an amount. If there is no room, or others wait, the connection waits as well, and
    /// `false` is returned. A connection waits for one amount at a time.
    fn take(&self, prefix: AddressPrefix, peer: PeerId, amount: u64) -> bool {
        let mut state = lock(&self.state);
        let state = &mut *state;
        let grants = state.grants;
        let newcomer = || Holder { grants, ..Holder::default() };
        let holder = state.by_prefix.entry(prefix).or_insert_with(newcomer);
        let is_first = holder.waiting.is_empty() && state.turns.is_empty();
        if is_first && self.has_share(holder, amount) && self.has_room(state.used, amount) {
            holder.used += amount;
            state.used += amount;
            return true;
        }
        holder.waiting.push_back(Waiter { peer, amount, is_told: false });
        // Behind others of its prefix it waits for theirs.
        if holder.waiting.len() == 1 && !holder.has_turn && self.has_share(holder, amount) {
            holder.has_turn = true;
            state.turns.push_back(prefix);
        }
        false
    }

    /// Returns the amount that was granted to a connection that waited; `None` if it still waits.
    fn collect(&self, prefix: AddressPrefix, peer: PeerId) -> Option<u64> {
        let mut state = lock(&self.state);
        let holder = state.by_prefix.get_mut(&prefix)?;
        let granted = holder.granted.remove(&peer);
        if granted.is_none() {
            let waiters = holder.waiting.iter_mut().filter(|waiter| waiter.peer == peer);
            waiters.for_each(|waiter| waiter.is_told = false);
        }
        granted
    }

    /// Forgets a connection that waits, and takes back what it has not collected.
    fn forget(&self, prefix: AddressPrefix, peer: PeerId) {
        self.change(prefix, |holder| {
            holder.waiting.retain(|waiter| waiter.peer != peer);
            holder.granted.remove(&peer).unwrap_or(0)
        });
    }

    /// Returns the grants for which other connections than this one wait.
    fn grants_awaited(&self, prefix: AddressPrefix, peer: PeerId) -> GrantsAwaited {
        let state = lock(&self.state);
        let holder = state.by_prefix.get(&prefix);
        let siblings_wait = |holder: &&Holder| holder.waiting.iter().any(|it| it.peer != peer);
        let holder = holder.filter(siblings_wait);
        let others_wait = state.turns.iter().any(|other| *other != prefix || holder.is_some());
        GrantsAwaited {
            of_all: others_wait.then_some(state.grants),
            of_share: holder.filter(|holder| !holder.has_turn).map(|holder| holder.grants),
        }
    }

    /// Takes back an amount.
    fn give_back(&self, prefix: AddressPrefix, amount: u64) {
        self.change(prefix, |_| amount);
    }

    /// Takes back the amount that `returned` returns, and gives it to those that wait.
    fn change(&self, prefix: AddressPrefix, returned: impl FnOnce(&mut Holder) -> u64) {
        let granted = {
            let mut state = lock(&self.state);
            let state = &mut *state;
            let Some(holder) = state.by_prefix.get_mut(&prefix) else { return };
            let amount = returned(holder);
            holder.used -= amount;
            state.used -= amount;
            // A prefix without a waiter keeps no turn, so that at most as many prefixes as
            // connections wait.
            if holder.waiting.is_empty() && std::mem::take(&mut holder.has_turn) {
                state.turns.retain(|other| *other != prefix);
            }
            self.grant(state, prefix)
        };
        for peer in granted {
            (self.notify)(peer);
        }
    }

    /// Grants room to those whose turn it is, and returns them. `changed` is the prefix that holds
    /// less than before.
    fn grant(&self, state: &mut State, changed: AddressPrefix) -> Vec<PeerId> {
        self.admit(state, changed);
        let mut granted = Vec::new();
        while let Some(&prefix) = state.turns.front() {
            let holder = state.by_prefix.entry(prefix).or_default();
            let next = holder.waiting.front().filter(|it| self.has_share(holder, it.amount));
            let Some(&Waiter { peer, amount, .. }) = next else {
                holder.has_turn = false;
                state.turns.pop_front();
                continue;
            };
            if !self.has_room(state.used, amount) {
                break;
            }
            holder.waiting.pop_front();
            holder.grants += 1;
            holder.used += amount;
            state.used += amount;
            *holder.granted.entry(peer).or_default() += amount;
            state.grants += 1;
            state.turns.rotate_left(1);
            granted.push(peer);
        }
        granted
    }

    /// Gives a prefix its turn if it waits and is below its share; forgets one that has nothing.
    fn admit(&self, state: &mut State, prefix: AddressPrefix) {
        let Some(holder) = state.by_prefix.get_mut(&prefix) else { return };
        match holder.waiting.front() {
            None if holder.used == 0 && !holder.has_turn => {
                state.by_prefix.remove(&prefix);
            }
            Some(first) if !holder.has_turn && self.has_share(holder, first.amount) => {
                holder.has_turn = true;
                state.turns.push_back(prefix);
            }
            _ => {}
        }
    }

    fn has_room(&self, used: u64, amount: u64) -> bool {
        used == 0 || used.saturating_add(amount) <= self.max
    }

    fn has_share(&self, holder: &Holder, amount: u64) -> bool {
        holder.used == 0 || holder.used.saturating_add(amount) <= self.share()
    }
}

impl Lease {
    /// Makes a lease of nothing.
    pub(crate) fn empty(budget: &Arc<FairBudget>, prefix: AddressPrefix, peer: PeerId) -> Self {
        Self { budget: budget.clone(), prefix, peer, amount: 0, is_waiting: false }
    }

    pub(crate) fn amount(&self) -> u64 {
        self.amount
    }

    /// Returns whether the connection waits, or has not collected what was granted.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Returns the grants for which others wait, if this connection has an amount.
    pub(crate) fn grants_awaited(&self) -> GrantsAwaited {
        match self.amount {
            0 => GrantsAwaited::default(),
            _ => self.budget.grants_awaited(self.prefix, self.peer),
        }
    }

    /// Takes more. If there is no room, or others wait, the connection waits: it is notified, and
    /// then [collects](Self::collect) what was granted. Returns whether it was taken at once. A
    /// connection that waits already continues to wait for the earlier amount.
    pub(crate) fn extend(&mut self, amount: u64) -> bool {
        if self.is_waiting {
            return false;
        }
        let is_taken = self.budget.take(self.prefix, self.peer, amount);
        if is_taken {
            self.amount += amount;
        }
        self.is_waiting = !is_taken;
        is_taken
    }

    /// Adds what was granted since the connection waited. Returns whether something was.
    pub(crate) fn collect(&mut self) -> bool {
        let granted = self.budget.collect(self.prefix, self.peer);
        if let Some(granted) = granted {
            self.amount += granted;
            self.is_waiting = false;
        }
        granted.is_some()
    }

    /// Stops waiting, and gives back what was granted and not collected.
    pub(crate) fn stop_waiting(&mut self) {
        if std::mem::take(&mut self.is_waiting) {
            self.budget.forget(self.prefix, self.peer);
        }
    }

    /// Gives back what is above this amount.
    pub(crate) fn shrink_to(&mut self, amount: u64) {
        if let Some(excess @ 1..) = self.amount.checked_sub(amount) {
            self.amount = amount;
            self.budget.give_back(self.prefix, excess);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop_waiting();
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests;
