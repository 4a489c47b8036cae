//! The side of a transfer that receives the file.

use blake3::Hasher;

use super::TransferViolation;

/// A file on its way in: what was held, what comes, what has been written, and whether it is right.
#[derive(Debug)]
pub struct Incoming {
    id: u32,
    size: u64,
    window_bytes: u64,
    hasher: Hasher,
    phase: Phase,
    /// The position up to which it has come, what was held included.
    received: u64,
    /// The position up to which it has been written.
    written: u64,
    /// Up to where the sender may send.
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// What is held is read and hashed.
    Holding,
    Receiving,
    /// The sender has said done.
    Done,
}

impl Incoming {
    /// A file that is offered; so much of it may be on its way or unwritten.
    ///
    /// # Panics
    ///
    /// Where nothing may be on its way.
    pub fn new(id: u32, size: u64, window_bytes: u64) -> Self {
        assert!(window_bytes > 0, "a window has bytes");
        Self {
            id,
            size,
            window_bytes,
            hasher: Hasher::new(),
            phase: Phase::Holding,
            received: 0,
            written: 0,
            limit: 0,
        }
    }

    /// Bytes that are there already, in order from the beginning.
    ///
    /// # Panics
    ///
    /// Where there are more than the file has, or it has been accepted.
    pub fn held(&mut self, bytes: &[u8]) {
        assert!(self.phase == Phase::Holding, "what is held comes before the accept");
        assert!(bytes.len() as u64 <= self.size - self.received, "more than the file has");
        self.hasher.update(bytes);
        self.received += bytes.len() as u64;
        self.written = self.received;
    }

    /// What to accept with: from where on, up to where, and the hash of what is held.
    ///
    /// # Panics
    ///
    /// On a second call.
    pub fn accept(&mut self) -> (u64, u64, [u8; 32]) {
        assert!(self.phase == Phase::Holding, "accepted once");
        self.phase = Phase::Receiving;
        self.limit = self.size.min(self.received.saturating_add(self.window_bytes));
        (self.received, self.limit, self.hash())
    }

    /// The next bytes have come.
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), TransferViolation> {
        if self.phase != Phase::Receiving {
            return Err(TransferViolation::OutOfTurn);
        }
        let received = self.received.saturating_add(bytes.len() as u64);
        if received > self.size {
            return Err(TransferViolation::BeyondSize);
        }
        if received > self.limit {
            return Err(TransferViolation::BeyondCredit);
        }
        self.hasher.update(bytes);
        self.received = received;
        Ok(())
    }

    /// So many more bytes have been written: up to where the sender may send now, where that is
    /// worth a frame.
    ///
    /// # Panics
    ///
    /// Where they have not come.
    pub fn written(&mut self, bytes: u64) -> Option<u64> {
        assert!(bytes <= self.received - self.written, "written before they came");
        self.written += bytes;
        let limit = self.size.min(self.written.saturating_add(self.window_bytes));
        let worth = limit - self.limit >= self.window_bytes.div_ceil(2)
            || limit == self.size && limit > self.limit;
        worth.then(|| {
            self.limit = limit;
            limit
        })
    }

    /// The sender says that this is all, and has this hash. False: it has another.
    pub fn done(&mut self, hash: [u8; 32]) -> Result<bool, TransferViolation> {
        if self.phase != Phase::Receiving {
            return Err(TransferViolation::OutOfTurn);
        }
        if self.received < self.size {
            let (received, size) = (self.received, self.size);
            return Err(TransferViolation::TooFew { received, size });
        }
        self.phase = Phase::Done;
        Ok(self.hasher.finalize() == blake3::Hash::from(hash))
    }

    /// BLAKE3 of what has come.
    pub fn hash(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The position up to which it has come, what was held included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Whether all of it has come and been written.
    pub fn is_written(&self) -> bool {
        self.written == self.size
    }
}
