//! The counts of a receiver: the bytes of its part, and the credit of the sender.

use super::super::TransferViolation;

/// The part of a file.
#[derive(Debug)]
pub(super) struct Part {
    /// The bytes that it held when it was opened or truncated.
    pub(super) held: u64,
    /// The bytes that it holds: the offset of the next write.
    pub(super) written: u64,
    /// The bytes that are synced, as far as this transfer has synced them.
    pub(super) synced: u64,
    /// The bytes that have arrived and are not written.
    queued: u64,
}

impl Part {
    pub(super) fn new(held: u64) -> Self {
        Self { held, written: held, synced: held, queued: 0 }
    }

    pub(super) fn queue(&mut self, bytes: usize) {
        self.queued += bytes as u64;
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        assert!(bytes as u64 <= self.queued, "written before it came");
        self.queued -= bytes as u64;
        self.written += bytes as u64;
    }

    pub(super) fn discard(&mut self) {
        self.queued = 0;
    }

    /// Returns whether all bytes that have arrived are written.
    pub(super) fn is_written(&self) -> bool {
        self.queued == 0
    }

    /// Returns whether no bytes have arrived since the part was opened or truncated.
    pub(super) fn is_untouched(&self) -> bool {
        self.queued == 0 && self.written == self.held
    }

    /// Returns whether the part holds no bytes.
    pub(super) fn is_empty(&self) -> bool {
        self.held.max(self.written) == 0
    }
}

/// The credit of the sender: the offset up to which it may send, and the one up to which it has
/// sent.
#[derive(Debug)]
pub(super) struct Credit {
    size: u64,
    window_bytes: u64,
    received: u64,
    limit: u64,
}

impl Credit {
    pub(super) fn new(size: u64, window_bytes: u64, offset: u64) -> Self {
        let limit = size.min(offset.saturating_add(window_bytes));
        Self { size, window_bytes, received: offset, limit }
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts the bytes of a chunk.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), TransferViolation> {
        let Self { size, limit, .. } = *self;
        let end = self.received.saturating_add(bytes as u64);
        if bytes as u64 > size - self.received {
            return Err(TransferViolation::BeyondSize { end, size });
        }
        if end > limit {
            return Err(TransferViolation::BeyondCredit { end, limit });
        }
        self.received = end;
        Ok(())
    }

    /// Checks that the whole file has arrived.
    pub(super) fn check_whole(&self) -> Result<(), TransferViolation> {
        let Self { size, received, .. } = *self;
        if received < size {
            return Err(TransferViolation::TooFew { received, size });
        }
        Ok(())
    }

    /// Returns the new limit after `written` bytes of the file have been written, if it is worth a
    /// frame: it is at least half a window higher, or is the size of the file for the first time.
    pub(super) fn renew(&mut self, written: u64) -> Option<u64> {
        let limit = self.size.min(written.saturating_add(self.window_bytes));
        let is_worth = limit - self.limit >= self.window_bytes.div_ceil(2)
            || limit == self.size && limit > self.limit;
        is_worth.then(|| {
            self.limit = limit;
            limit
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn credit_comes_by_half_windows_and_at_last_for_all() {
        for window in 1..9 {
            let mut credit = Credit::new(20, window, 0);
            let mut limits = Vec::new();
            let mut limit = credit.limit();
            assert_eq!(limit, window);
            for written in 1..=20 {
                // Byte after byte, each written at once: the sender never has to wait for ever.
                credit.take(1).unwrap();
                if let Some(more) = credit.renew(written) {
                    assert!(more - limit >= window.div_ceil(2) || more == 20);
                    limit = more;
                    limits.push(more);
                }
            }
            assert_eq!(limits.last(), Some(&20));
            assert!(limits.len() as u64 <= 20_u64.div_ceil(window.div_ceil(2)), "{limits:?}");
        }
    }

    #[test]
    fn sizes_beyond_four_gibibytes_are_counted_right() {
        let size = 9 * GIB;
        let mut credit = Credit::new(size, GIB, 5 * GIB);
        credit.take(1 << 10).unwrap();
        assert_eq!(credit.received, 5 * GIB + (1 << 10));
        assert_eq!(credit.renew(5 * GIB + (1 << 10)), None);
        credit.received = 6 * GIB;
        let beyond = TransferViolation::BeyondCredit { end: 6 * GIB + 1, limit: 6 * GIB };
        assert_eq!(credit.take(1), Err(beyond));
        assert_eq!(credit.renew(6 * GIB), Some(7 * GIB));
        assert_eq!(credit.renew(8 * GIB + 1), Some(size));
        credit.received = 8 * GIB + 1;
        let few = TransferViolation::TooFew { received: 8 * GIB + 1, size };
        assert_eq!(credit.check_whole(), Err(few));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for size in [i64::MAX as u64, u64::MAX] {
            let mut credit = Credit::new(size, u64::MAX, 4);
            assert_eq!(credit.limit(), size);
            credit.take(4).unwrap();
            assert_eq!(credit.renew(8), None);
            credit.received = size - 1;
            assert!(credit.take(2).is_err());
            assert_eq!(credit.take(1), Ok(()));
            assert_eq!(credit.renew(size), None);
        }
    }
}
