//! The gate of a connection. Another thread checks it, and reserves room in it, before it posts.

use crate::error::SendError;
use crate::id::GENERATION_BITS;
use crate::id::HandlerId;
use crate::send_config::SendLimits;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// The gate of one connection. `state` packs, from the top: bytes queued or reserved (34 bits),
/// refused, told and open (1 bit each), the low bits of the generation (27 bits). So one
/// compare-and-swap answers "is this still the same connection, does it take messages, and is
/// there room?". The rest of the generation, the `epoch`, changes once in 134 million times. It
/// is compared after the state has been read, and written before the state is written.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: AtomicU64,
    epoch: AtomicU32,
    /// The send configuration (16 bits), the handler (15 bits), and [`HELLO`].
    packed_terms: AtomicU32,
    /// The maximum payload that the peer accepts.
    max_payload_bytes: AtomicU32,
}

const _: () = assert!(size_of::<Gate>() == 24);

/// The number of generation bits in the state.
const LOW_BITS: u32 = 27;
const LOW_MASK: u64 = (1 << LOW_BITS) - 1;
const _: () = assert!(GENERATION_BITS - LOW_BITS <= u32::BITS);

/// The last generation of a slot. No connection has it, and no generation follows it.
const LAST_GENERATION: u64 = crate::id::GENERATION_MASK - 1;

const OPEN: u64 = 1 << LOW_BITS;
/// True exactly when a message found no room since the last call of `writable`.
const REFUSED: u64 = 1 << (LOW_BITS + 1);
/// True exactly when a post is on its way that tells the strand of freed room.
const TOLD: u64 = 1 << (LOW_BITS + 2);
const BYTES_SHIFT: u32 = LOW_BITS + 3;
/// True exactly when both sides have said hello, so that kinds 4 to 31 belong to the protocol.
const HELLO: u32 = 1 << 31;
const HANDLER_SHIFT: u32 = 16;

/// The terms of a connection that a sender must know, read from an open gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendTerms {
    /// The index of the send configuration.
    pub(crate) send: usize,
    pub(crate) handler: HandlerId,
    pub(crate) limits: SendLimits,
}

impl Gate {
    /// Returns the generation of the connection in the slot, or of the last one.
    pub(crate) fn generation(&self) -> u64 {
        let low = self.state.load(Ordering::Acquire) & LOW_MASK;
        u64::from(self.epoch.load(Ordering::Relaxed)) << LOW_BITS | low
    }

    /// Returns whether `state`, a value of the field that the caller has loaded, belongs to
    /// this generation. The state must be loaded before the call, which compares the epoch: in this
    /// order a reused slot is never mistaken for the old one.
    fn is_of(&self, state: u64, generation: u64) -> bool {
        state & LOW_MASK == generation & LOW_MASK
            && u64::from(self.epoch.load(Ordering::Relaxed)) == generation >> LOW_BITS
    }

    /// Returns whether a slot of this generation has a connection. Each allocation and each release
    /// adds one, so odd generations are those of connections.
    pub(crate) fn in_use(generation: u64) -> bool {
        generation % 2 == 1
    }

    /// Returns whether a released slot of this generation can be allocated again.
    pub(crate) fn is_reusable(generation: u64) -> bool {
        generation < LAST_GENERATION
    }

    /// Begins the next generation of the slot, with a shut gate. It is called when the slot is
    /// allocated and when it is released. Returns the new generation.
    pub(crate) fn renew(&self) -> u64 {
        let next = self.generation() + 1;
        assert!(next <= LAST_GENERATION, "a slot whose generations are used up is retired");
        self.epoch.store((next >> LOW_BITS) as u32, Ordering::Relaxed);
        self.state.store(next & LOW_MASK, Ordering::Release);
        next
    }

    #[cfg(test)]
    pub(crate) fn set_generation(&self, generation: u64) {
        self.epoch.store((generation >> LOW_BITS) as u32, Ordering::Relaxed);
        self.state.store(generation & LOW_MASK, Ordering::Release);
    }

    /// Sets the terms for senders. It is called before the gate opens, and again when both sides
    /// have said hello.
    pub(crate) fn set_send_terms(&self, send_terms: SendTerms) {
        let send = u32::from(u16::try_from(send_terms.send).expect("few send configurations"));
        let handler = u32::from(send_terms.handler.0) << HANDLER_SHIFT;
        let hello = if send_terms.limits.hello { HELLO } else { 0 };
        self.packed_terms.store(send | handler | hello, Ordering::Relaxed);
        let max = u32::try_from(send_terms.limits.max_payload_bytes).unwrap_or(u32::MAX);
        self.max_payload_bytes.store(max, Ordering::Relaxed);
    }

    /// Opens the gate for messages of other threads.
    pub(crate) fn open(&self) {
        self.state.fetch_or(OPEN, Ordering::Release);
    }

    /// Shuts the gate for messages of other threads.
    pub(crate) fn shut(&self) {
        self.state.fetch_and(!OPEN, Ordering::AcqRel);
    }

    /// Returns the terms for senders, if the connection has this generation and the gate is open.
    pub(crate) fn send_terms(&self, generation: u64) -> Result<SendTerms, SendError> {
        let state = self.state.load(Ordering::Acquire);
        if !self.is_of(state, generation) || state & OPEN == 0 {
            return Err(SendError::NotConnected);
        }
        let packed_terms = self.packed_terms.load(Ordering::Relaxed);
        Ok(SendTerms {
            send: (packed_terms & 0xffff) as usize,
            handler: HandlerId(((packed_terms & !HELLO) >> HANDLER_SHIFT) as u16),
            limits: SendLimits {
                hello: packed_terms & HELLO != 0,
                max_payload_bytes: self.max_payload_bytes.load(Ordering::Relaxed) as usize,
            },
        })
    }

    /// Reserves room for a message of another thread. An empty queue takes any one message.
    pub(crate) fn reserve(
        &self,
        generation: u64,
        bytes: usize,
        max_bytes: usize,
    ) -> Result<(), SendError> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if !self.is_of(state, generation) || state & OPEN == 0 {
                return Err(SendError::NotConnected);
            }
            let queued = (state >> BYTES_SHIFT) as usize;
            let full = queued > 0 && queued + bytes > max_bytes;
            // The mark is set while bytes are queued, so the release of those bytes sees it.
            let next = if full { state | REFUSED } else { state + ((bytes as u64) << BYTES_SHIFT) };
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) if full => return Err(SendError::QueueFull { queued_bytes: queued }),
                Ok(_) => return Ok(()),
                Err(now) => state = now,
            }
        }
    }

    /// Gives back the room that a thread reserved for a message which it then could not post. It
    /// has no effect if the connection has ended: the end gave the room back.
    ///
    /// Returns whether the caller must tell the strand: a message found no room meanwhile, and the
    /// strand has nothing to release that would show it the mark of that.
    pub(crate) fn cancel_reservation(&self, generation: u64, bytes: usize) -> bool {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            if !self.is_of(state, generation) {
                return false;
            }
            let left = state - ((bytes as u64) << BYTES_SHIFT);
            let tells = left >> BYTES_SHIFT == 0 && left & (REFUSED | TOLD) == REFUSED;
            let next = if tells { left | TOLD } else { left };
            match self.state.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return tells,
                Err(now) => state = now,
            }
        }
    }

    /// Notes that the strand was told of freed room. Returns whether a message has found no room
    /// since the last call of `writable`.
    pub(crate) fn take_told(&self) -> bool {
        self.state.fetch_and(!TOLD, Ordering::AcqRel) & REFUSED != 0
    }

    /// Counts bytes that the strand itself has queued.
    pub(crate) fn add(&self, bytes: usize) {
        self.state.fetch_add((bytes as u64) << BYTES_SHIFT, Ordering::Relaxed);
    }

    /// Releases bytes that were sent or discarded. Returns whether a message has found no room.
    pub(crate) fn release(&self, bytes: usize) -> bool {
        let before = self.state.fetch_sub((bytes as u64) << BYTES_SHIFT, Ordering::Relaxed);
        debug_assert!((before >> BYTES_SHIFT) as usize >= bytes, "released more than was queued");
        before & REFUSED != 0
    }

    /// Clears the mark of a rejected message, before `writable` is called.
    pub(crate) fn clear_refused(&self) {
        self.state.fetch_and(!REFUSED, Ordering::Relaxed);
    }

    /// Returns the number of bytes queued or reserved.
    pub(crate) fn queued_bytes(&self) -> usize {
        (self.state.load(Ordering::Relaxed) >> BYTES_SHIFT) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_takes_only_its_own_generation_while_it_is_open() {
        let gate = Gate::default();
        let first = gate.renew();
        assert_eq!(gate.reserve(first, 1, 10), Err(SendError::NotConnected));
        gate.open();
        assert_eq!(gate.reserve(first, 4, 10), Ok(()));
        assert_eq!(gate.reserve(first, 7, 10), Err(SendError::QueueFull { queued_bytes: 4 }));
        assert!(gate.release(4), "a message found no room");
        gate.clear_refused();
        assert_eq!(gate.reserve(first, 1, 10), Ok(()));
        gate.cancel_reservation(first + 2, 1);
        assert_eq!(gate.queued_bytes(), 1, "another connection's reservation");
        gate.cancel_reservation(first, 1);
        assert_eq!(gate.reserve(first, 11, 10), Ok(()), "a lone message always fits");
        gate.shut();
        assert_eq!(gate.reserve(first, 1, 100), Err(SendError::NotConnected));
        assert!(!Gate::in_use(gate.renew()), "released");
        let second = gate.renew();
        gate.open();
        assert_eq!(gate.reserve(first, 1, 100), Err(SendError::NotConnected));
        assert_eq!((gate.reserve(second, 1, 100), gate.queued_bytes()), (Ok(()), 1));
    }

    #[test]
    fn room_that_is_given_back_is_told_once_to_who_found_none() {
        let gate = Gate::default();
        let first = gate.renew();
        gate.open();
        assert_eq!(gate.reserve(first, 6, 10), Ok(()));
        assert!(!gate.cancel_reservation(first, 6), "nobody found no room");
        for _ in 0..2 {
            assert_eq!(gate.reserve(first, 6, 10), Ok(()));
            assert_eq!(gate.reserve(first, 4, 10), Ok(()));
            assert_eq!(gate.reserve(first, 1, 10), Err(SendError::QueueFull { queued_bytes: 10 }));
            assert!(!gate.cancel_reservation(first, 6), "the other bytes will show the mark");
            assert!(gate.cancel_reservation(first, 4));
            assert_eq!(gate.reserve(first, 6, 10), Ok(()));
            assert!(!gate.cancel_reservation(first, 6), "the strand will be told");
            assert!(gate.take_told(), "the mark stays until `writable` is called");
            gate.clear_refused();
            assert!(!gate.take_told());
        }
    }

    #[test]
    fn a_generation_goes_on_beyond_the_bits_of_the_state() {
        let gate = Gate::default();
        gate.set_generation(LOW_MASK - 1);
        let last = gate.renew();
        gate.open();
        assert!(Gate::in_use(last) && gate.reserve(last, 1, 10).is_ok());
        assert_eq!((gate.renew(), gate.renew()), (LOW_MASK + 1, LOW_MASK + 2));
        gate.open();
        assert_eq!(gate.generation(), LOW_MASK + 2);
        // The first connection that the slot ever had has the same low bits.
        assert_eq!(gate.reserve(1, 1, 10), Err(SendError::NotConnected));
        assert!(gate.send_terms(1).is_err());
        assert_eq!(gate.reserve(LOW_MASK + 2, 1, 10), Ok(()));
        gate.cancel_reservation(1, 1);
        assert_eq!(gate.queued_bytes(), 1);
    }
}
