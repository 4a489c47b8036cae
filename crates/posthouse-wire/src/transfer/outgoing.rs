//! The side of a transfer that sends the file.

use blake3::Hasher;

use super::TransferViolation;

/// A file on its way out: what to read next, what to say, and what the receiver may say.
///
/// The caller reads what [`next`](Self::next) asks for and hands it in: to
/// [`prefix`](Self::prefix) while what the receiver holds is compared, to [`chunk`](Self::chunk)
/// when it is sent.
#[derive(Debug)]
pub struct Outgoing {
    id: u32,
    size: u64,
    chunk_bytes_max: usize,
    hasher: Hasher,
    phase: Phase,
    /// The position in the file that has been hashed.
    hashed: u64,
    /// What the receiver held.
    held: u64,
    prefix: [u8; 32],
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Offered,
    /// What the receiver holds is read and hashed.
    Comparing,
    Sending,
    /// Done has been said.
    Said,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing, until the receiver says something.
    Wait,
    /// Read at most so much from here, to compare.
    Prefix {
        /// From where.
        offset: u64,
        /// How much.
        bytes: usize,
    },
    /// Read at most so much from here, and send it.
    Chunk {
        /// From where.
        offset: u64,
        /// How much.
        bytes: usize,
    },
    /// Say done.
    Done,
}

/// What the receiver holds is not the beginning of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixDiffers;

impl Outgoing {
    /// A file that is offered.
    ///
    /// # Panics
    ///
    /// Where a chunk may have no byte.
    pub fn new(id: u32, size: u64, chunk_bytes_max: usize) -> Self {
        assert!(chunk_bytes_max > 0, "a chunk has bytes");
        Self {
            id,
            size,
            chunk_bytes_max,
            hasher: Hasher::new(),
            phase: Phase::Offered,
            hashed: 0,
            held: 0,
            prefix: [0; 32],
            limit: 0,
        }
    }

    /// The receiver wants it from `offset` on, may get it up to `limit`, and holds bytes of this
    /// hash.
    pub fn accepted(
        &mut self,
        offset: u64,
        limit: u64,
        prefix: [u8; 32],
    ) -> Result<(), TransferViolation> {
        if self.phase != Phase::Offered {
            return Err(TransferViolation::AcceptedTwice);
        }
        if offset > self.size || limit < offset {
            return Err(TransferViolation::OffsetTooFar);
        }
        (self.held, self.prefix) = (offset, prefix);
        self.limit = limit.min(self.size);
        self.phase = if offset == 0 { Phase::Sending } else { Phase::Comparing };
        Ok(())
    }

    /// The receiver may get it up to here. A lower limit than before says nothing.
    pub fn credit(&mut self, limit: u64) -> Result<(), TransferViolation> {
        if self.phase == Phase::Offered {
            return Err(TransferViolation::OutOfTurn);
        }
        self.limit = self.limit.max(limit.min(self.size));
        Ok(())
    }

    /// What to do next.
    pub fn next(&self) -> Next {
        let offset = self.hashed;
        match self.phase {
            Phase::Offered | Phase::Said => Next::Wait,
            Phase::Comparing => Next::Prefix { offset, bytes: self.at_most(self.held - offset) },
            Phase::Sending if offset == self.size => Next::Done,
            Phase::Sending if offset == self.limit => Next::Wait,
            Phase::Sending => Next::Chunk { offset, bytes: self.at_most(self.limit - offset) },
        }
    }

    fn at_most(&self, bytes: u64) -> usize {
        usize::try_from(bytes).unwrap_or(usize::MAX).min(self.chunk_bytes_max)
    }

    /// Bytes that were read to compare. When all of them are there, they are compared.
    ///
    /// # Panics
    ///
    /// Where nothing, or not so much, was to be read.
    pub fn prefix(&mut self, bytes: &[u8]) -> Result<(), PrefixDiffers> {
        assert!(self.phase == Phase::Comparing, "nothing is compared now");
        self.hash(bytes, self.held);
        if self.hashed < self.held {
            return Ok(());
        }
        // Compared in constant time, which does no harm.
        if self.hasher.finalize() != blake3::Hash::from(self.prefix) {
            return Err(PrefixDiffers);
        }
        self.phase = Phase::Sending;
        Ok(())
    }

    /// Bytes that are sent now.
    ///
    /// # Panics
    ///
    /// Where nothing, or not so much, may be sent.
    pub fn chunk(&mut self, bytes: &[u8]) {
        assert!(self.phase == Phase::Sending, "nothing is sent now");
        self.hash(bytes, self.limit);
    }

    fn hash(&mut self, bytes: &[u8], end: u64) {
        assert!(bytes.len() as u64 <= end - self.hashed, "more bytes than were asked for");
        self.hasher.update(bytes);
        self.hashed += bytes.len() as u64;
    }

    /// All has been sent: the hash to say done with.
    ///
    /// # Panics
    ///
    /// Where not all has been sent.
    pub fn done(&mut self) -> [u8; 32] {
        assert!(self.next() == Next::Done, "there is more to send");
        self.phase = Phase::Said;
        *self.hasher.finalize().as_bytes()
    }

    /// The receiver says that it has all of it.
    pub fn confirmed(&mut self, hash: [u8; 32]) -> Result<(), TransferViolation> {
        if self.phase != Phase::Said {
            return Err(TransferViolation::OutOfTurn);
        }
        match self.hasher.finalize() == blake3::Hash::from(hash) {
            true => Ok(()),
            false => Err(TransferViolation::OtherHash),
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The position up to which it has been sent, what the receiver held included.
    pub fn sent(&self) -> u64 {
        self.hashed
    }
}
