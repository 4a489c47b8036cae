//! The ledger: collects the callbacks of both sides of every connection, and checks that they
//! agree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use super::traffic::{GROUP, KeptRequest, OUTSIDE, Rng, ServerSide, body};
use super::{Summary, lock};
use posthouse::{
    ConnectionOptions, DisconnectKind, DisconnectReason, Endpoint, Group, PeerId, RequestError,
};

/// A side of a connection, with the number of its endpoint. No two endpoints of a run have the same
/// number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Server(u64),
    Client(u64),
}

impl Side {
    /// Returns the number of the endpoint.
    pub(super) fn number(self) -> u64 {
        match self {
            Side::Server(number) | Side::Client(number) => number,
        }
    }
}

/// The callbacks of one side of one connection.
#[derive(Debug, Default)]
struct Seen {
    connected: bool,
    disconnected: bool,
    /// The number of received messages of the peer's stream: exactly the messages 0 to `received -
    /// 1`.
    received: u64,
    sent: u64,
    /// The number that the client gave to the connection and that its messages carry.
    line: Option<u64>,
    /// The number of messages that another thread sent successfully on this side.
    outside_sent: u64,
    outside_received: u64,
    group_last: Option<u64>,
    reason: Option<(DisconnectKind, u64)>,
    /// True exactly when the peer's end was told because its time was over.
    timed_out: bool,
}

/// Returns whether the connection ended because this side did not read for too long. What the peer
/// sent before its end may then be lost.
pub(super) fn was_not_reading(why: &DisconnectReason) -> bool {
    why.to_string().contains("did not read")
}

/// A plain peer for which the server has paused reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    id: PeerId,
    /// True exactly when reading resumes after a while.
    pub(super) resumes: bool,
    /// The number of messages that were received behind the pause.
    pub(super) received: u64,
    pub(super) disconnected: bool,
    /// True exactly when the peer's end was told behind everything before it.
    pub(super) ended_cleanly: bool,
}

/// The answer of the other side to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Not,
    Replied,
    Rejected(&'static str),
}

/// The text with which the framework rejects a request above the limit.
const TOO_MANY: &str = "too many requests wait for their replies";
/// The maximum number of kept requests, of all connections together.
const KEPT_MAX: usize = 8;

/// The ledger of a run. A callback writes a violation into it and does not panic, because the
/// framework would contain the panic.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    inner: Mutex<Inner>,
    kept: Mutex<Kept>,
}

/// The requests that wait for an answer from any later callback.
#[derive(Debug, Default)]
struct Kept {
    requests: Vec<KeptRequest>,
    /// True exactly when requests are no longer kept.
    quiescent: bool,
}

#[derive(Debug, Default)]
struct Inner {
    seen: BTreeMap<(Side, PeerId), Seen>,
    violation: Option<String>,
    summary: Summary,
    /// The answer of the other side to each request.
    requests: Vec<Answered>,
    answered: usize,
    group_sent: u64,
    /// The held peers, by their numbers.
    held: BTreeMap<u64, Held>,
    /// The sides that wait without a time limit until they can tell the end of a peer.
    untimed: BTreeSet<Side>,
}

impl Ledger {
    fn note(&self, side: Side, id: PeerId, note: impl FnOnce(&mut Seen) -> Option<String>) {
        let mut inner = lock(&self.inner);
        let seen = inner.seen.entry((side, id)).or_default();
        let mut wrong = note(seen);
        if wrong.is_none() && !seen.connected {
            wrong = Some("C6: a callback before connected".to_owned());
        }
        if let Some(text) = wrong {
            let text = format!("{text} ({side:?} {id})");
            inner.violation.get_or_insert(text);
        }
    }

    /// Writes a violation, unless there is one.
    pub(super) fn wrong(&self, text: String) {
        lock(&self.inner).violation.get_or_insert(text);
    }

    /// Returns the first violation as the error, if there is one.
    pub(super) fn holds(&self) -> Result<(), String> {
        lock(&self.inner).violation.clone().map_or(Ok(()), Err)
    }

    /// Notes the options of the connections of a side.
    pub(super) fn started(&self, side: Side, options: &ConnectionOptions) {
        if options.paused_end_timeout_ms == 0 {
            lock(&self.inner).untimed.insert(side);
        }
    }

    pub(super) fn connected(&self, side: Side, id: PeerId) {
        lock(&self.inner).summary.connections += 1;
        self.note(side, id, |seen| {
            let again = seen.connected.then(|| "C6: connected twice".to_owned());
            seen.connected = true;
            again
        });
    }

    pub(super) fn disconnected(&self, side: Side, id: PeerId, why: &DisconnectReason) {
        let waits_for_ever = {
            let mut inner = lock(&self.inner);
            inner.summary.disconnections += 1;
            inner.untimed.contains(&side)
        };
        self.note(side, id, |seen| {
            let again = seen.disconnected.then(|| "C6: disconnected twice".to_owned());
            seen.disconnected = true;
            seen.reason = Some((why.kind(), why.unsent_bytes()));
            seen.timed_out = was_not_reading(why);
            let unlimited = seen.timed_out && waits_for_ever;
            let text = || "C8: the end of a peer was told early, and has no time limit".to_owned();
            again.or_else(|| unlimited.then(text))
        });
    }

    /// Notes a callback other than `disconnected`.
    pub(super) fn called(&self, side: Side, id: PeerId) {
        self.note(side, id, |seen| {
            seen.disconnected.then(|| "C6: a callback after disconnected".to_owned())
        });
    }

    pub(super) fn sent(&self, side: Side, id: PeerId) {
        self.note(side, id, |seen| {
            seen.sent += 1;
            None
        });
    }

    /// Checks message `number` of the peer's stream, which carries the connection's number.
    pub(super) fn received(&self, side: Side, id: PeerId, line: u64, number: u64) {
        lock(&self.inner).summary.messages += 1;
        self.note(side, id, |seen| {
            let expected = seen.received;
            seen.received += 1;
            if *seen.line.get_or_insert(line) != line {
                return Some(format!("C6: a message of line {line} on another connection"));
            }
            (number != expected)
                .then(|| format!("C5: message {number} arrived, {expected} was expected"))
        });
    }

    pub(super) fn received_outside(&self, side: Side, id: PeerId, number: u64) {
        lock(&self.inner).summary.messages += 1;
        self.note(side, id, |seen| {
            let expected = seen.outside_received;
            seen.outside_received += 1;
            let text = || format!("C5: outside {number} arrived, {expected} was expected");
            (number != expected).then(text)
        });
    }

    pub(super) fn received_group(&self, side: Side, id: PeerId, number: u64) {
        lock(&self.inner).summary.messages += 1;
        self.note(side, id, |seen| {
            let last = seen.group_last.replace(number);
            let wrong = last.is_some_and(|last| last >= number);
            wrong.then(|| format!("C5: group message {number} after {last:?}"))
        });
    }

    /// Notes that the server pauses reading from a plain peer.
    pub(super) fn hold(&self, number: u64, id: PeerId, resumes: bool) {
        let received = 0;
        let disconnected = false;
        let ended_cleanly = false;
        let held = Held { id, resumes, received, disconnected, ended_cleanly };
        lock(&self.inner).held.insert(number, held);
    }

    /// Checks a message behind the pause.
    pub(super) fn received_behind(&self, number: u64, index: u64) {
        let mut inner = lock(&self.inner);
        let Inner { held, violation, .. } = &mut *inner;
        match held.get_mut(&number) {
            Some(held) if held.received == index => held.received += 1,
            other => {
                let text = format!("C5: message {index} behind a pause: {other:?}");
                violation.get_or_insert(text);
            }
        }
    }

    /// Returns a held peer, if the server has paused for it.
    pub(super) fn held_peer(&self, number: u64) -> Option<Held> {
        let inner = lock(&self.inner);
        let held = *inner.held.get(&number)?;
        let seen = inner.seen.get(&(Side::Server(0), held.id))?;
        let ended = matches!(seen.reason, Some((DisconnectKind::Ended, _)));
        let ended_cleanly = ended && !seen.timed_out;
        Some(Held { disconnected: seen.disconnected, ended_cleanly, ..held })
    }

    /// Notes that a request is sent. Returns its number.
    pub(super) fn asked(&self) -> u64 {
        let requests = &mut lock(&self.inner).requests;
        requests.push(Answered::Not);
        requests.len() as u64 - 1
    }

    /// Notes the answer of the other side to a request.
    pub(super) fn answers(&self, number: Option<u64>, how: Answered) {
        if let Some(number) = number {
            lock(&self.inner).requests[number as usize] = how;
        }
    }

    /// Checks the end of a request, as it is reported to the side that sent it.
    pub(super) fn answered(&self, number: u64, patient: bool, error: Option<&RequestError>) {
        let mut inner = lock(&self.inner);
        inner.answered += 1;
        let how = inner.requests[number as usize];
        let right = match (error, how) {
            (None, how) => how == Answered::Replied,
            (Some(RequestError::Rejected(text)), Answered::Rejected(given)) => **text == *given,
            (Some(RequestError::Rejected(text)), how) => {
                how == Answered::Not && **text == *TOO_MANY
            }
            (Some(RequestError::TimedOut), _) => !patient,
            _ => true,
        };
        if !right {
            let text = format!("C6: a request was answered: {how:?}; reported: {error:?}");
            inner.violation.get_or_insert(text);
        }
    }

    /// Keeps a request for later. If more than [`KEPT_MAX`] are kept, it answers the oldest.
    pub(super) fn keep(&self, request: KeptRequest, way: u64) {
        let mut kept = lock(&self.kept);
        kept.requests.push(request);
        if kept.quiescent || kept.requests.len() > KEPT_MAX {
            drop(kept);
            self.answer_kept(way);
        }
    }

    /// Answers the oldest kept request, if there is one.
    pub(super) fn answer_kept(&self, way: u64) {
        let mut kept = lock(&self.kept);
        if !kept.requests.is_empty() {
            let request = kept.requests.remove(0);
            drop(kept);
            request.answer(self, way);
        }
    }

    /// Answers all kept requests and keeps no more.
    pub(super) fn quiesce(&self) {
        let mut kept = lock(&self.kept);
        kept.quiescent = true;
        let requests = std::mem::take(&mut kept.requests);
        drop(kept);
        (0..).zip(requests).for_each(|(way, request)| request.answer(self, way));
    }

    /// Notes the number that the client gave to its connection.
    pub(super) fn line(&self, side: Side, id: PeerId, line: u64) {
        self.note(side, id, |seen| {
            seen.line = Some(line);
            None
        });
    }

    /// Sends as another thread would, to one of the server's peers.
    pub(super) fn send_from_outside(&self, server: &Endpoint<ServerSide>, rng: &mut Rng) {
        let peers = server.peers();
        if peers.is_empty() {
            return;
        }
        let id = peers[rng.below(peers.len() as u64) as usize].id;
        for _ in 0..rng.below(20) {
            let number = match lock(&self.inner).seen.get(&(Side::Server(0), id)) {
                Some(seen) if seen.connected => seen.outside_sent,
                _ => return,
            };
            let payload = body(OUTSIDE, number, rng.below(3000) as usize);
            if server.send(id, OUTSIDE, &payload).is_err() {
                return;
            }
            if let Some(seen) = lock(&self.inner).seen.get_mut(&(Side::Server(0), id)) {
                seen.outside_sent += 1;
            }
        }
    }

    /// Sends to a group. The numbers that a member receives only increase.
    pub(super) fn send_to_group(&self, group: &Group) {
        let number = {
            let mut inner = lock(&self.inner);
            inner.group_sent += 1;
            inner.group_sent
        };
        // It fails only if the posts are at their bound, and then no member receives this number.
        let _ = group.send(GROUP, &body(GROUP, number, 1500));
    }

    /// Checks, after the end of all faults, that everything sent on open connections has arrived.
    pub(super) fn nothing_is_stuck(&self) -> Result<(), String> {
        let inner = lock(&self.inner);
        let unanswered = inner.requests.len() - inner.answered;
        if unanswered > 0 {
            return Err(format!("C4: {unanswered} requests are stuck"));
        }
        for (line, [server, client]) in inner.pairs()? {
            if server.disconnected || client.disconnected {
                continue;
            }
            for (this, other) in [(server, client), (client, server)] {
                let stuck = other.sent - this.received;
                let outside = other.outside_sent - this.outside_received;
                if stuck + outside > 0 {
                    return Err(format!(
                        "C4: line {line}: {stuck} messages and {outside} of other threads are \
                         stuck: {this:?}; {other:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Checks the whole run after the end of all endpoints, and returns its counts.
    pub(super) fn verdict(&self) -> Result<Summary, String> {
        let inner = lock(&self.inner);
        if let Some(text) = &inner.violation {
            return Err(text.clone());
        }
        let asked = inner.requests.len();
        let answered = inner.answered;
        if asked != answered {
            return Err(format!("C6: {asked} requests sent, {answered} ends reported"));
        }
        for ((side, id), seen) in &inner.seen {
            if seen.connected != seen.disconnected {
                return Err(format!("C6: {side:?} {id} had no disconnected callback"));
            }
        }
        for (line, [server, client]) in inner.pairs()? {
            pair_verdict(line, server, client)?;
            pair_verdict(line, client, server)?;
        }
        let mut summary = inner.summary;
        summary.requests = asked as u64;
        Ok(summary)
    }
}

impl Inner {
    /// Returns the callbacks of the server and of the client, for each line that both know.
    fn pairs(&self) -> Result<Vec<(u64, [&Seen; 2])>, String> {
        let mut by_line: BTreeMap<u64, [Option<&Seen>; 2]> = BTreeMap::new();
        for ((side, _), seen) in &self.seen {
            if let Some(line) = seen.line {
                let place = usize::from(matches!(side, Side::Client(_)));
                if by_line.entry(line).or_default()[place].replace(seen).is_some() {
                    return Err(format!("C6: line {line} on two connections of one side"));
                }
            }
        }
        let pairs = by_line.into_iter();
        Ok(pairs.filter_map(|(line, pair)| Some((line, [pair[0]?, pair[1]?]))).collect())
    }
}

/// Checks that every message sent by `other` has arrived, if `this` side saw its clean end.
fn pair_verdict(line: u64, this: &Seen, other: &Seen) -> Result<(), String> {
    if this.received > other.sent {
        return Err(format!("C5: line {line}: {} of {} arrived", this.received, other.sent));
    }
    if this.outside_received > other.outside_sent {
        return Err(format!("C5: line {line}: more outside messages arrived than were sent"));
    }
    let clean = matches!(this.reason, Some((DisconnectKind::Ended, _))) && !this.timed_out;
    let whole = matches!(other.reason, Some((_, 0)));
    let missing = other.sent - this.received;
    if clean && whole && missing > 0 {
        return Err(format!(
            "C5: line {line}: {missing} messages lost before a clean end: {this:?}; {other:?}"
        ));
    }
    Ok(())
}
