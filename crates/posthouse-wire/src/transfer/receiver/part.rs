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
    pub(super) queued: u64,
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
/// sent. Credit is a promise of memory, so it is granted only as memory for it was granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    size: u64,
    window_bytes: u64,
    received: u64,
    limit: u64,
    /// The number of bytes for which memory was requested and not granted.
    asked: u64,
}

impl Credit {
    /// Makes the credit of a file that is received from an offset on, without any bytes.
    pub(super) fn new(size: u64, window_bytes: u64, offset: u64) -> Self {
        Self { size, window_bytes, received: offset, limit: offset, asked: 0 }
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

    /// Returns the number of bytes for which memory is needed, after `written` bytes of the file
    /// have been written, if they are worth a frame: at least half a window, or the rest of the
    /// file. The caller requests the memory.
    pub(super) fn ask(&mut self, written: u64) -> Option<usize> {
        if self.asked > 0 {
            return None;
        }
        let limit = self.size.min(written.saturating_add(self.window_bytes));
        let is_worth = limit - self.limit >= self.window_bytes.div_ceil(2)
            || limit == self.size && limit > self.limit;
        is_worth.then(|| {
            self.asked = limit - self.limit;
            usize::try_from(self.asked).unwrap_or(usize::MAX)
        })
    }

    /// Returns whether memory was requested and not granted.
    pub(super) fn is_asked(&self) -> bool {
        self.asked > 0
    }

    /// Raises the limit by the requested number of bytes, and returns it. Returns `None` if none
    /// was requested.
    pub(super) fn grant(&mut self) -> Option<u64> {
        let granted = std::mem::take(&mut self.asked);
        self.limit += granted;
        (granted > 0).then_some(self.limit)
    }

    /// Returns the number of bytes that may still arrive, or have arrived and are not written.
    pub(super) fn promised(&self, written: u64) -> u64 {
        self.limit.saturating_sub(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    /// Asks for memory after `written` bytes, and gets it at once.
    fn renew(credit: &mut Credit, written: u64) -> Option<u64> {
        credit.ask(written)?;
        assert_eq!(credit.ask(written), None, "it has been requested");
        credit.grant()
    }

    #[test]
    fn credit_comes_by_half_windows_and_at_last_for_all() {
        for window in 1..9 {
            let mut credit = Credit::new(20, window, 0);
            assert_eq!(credit.limit(), 0);
            let mut limits = Vec::new();
            let mut limit = renew(&mut credit, 0).unwrap();
            assert_eq!((limit, credit.promised(0)), (window, window));
            for written in 1..=20 {
                // Byte after byte, each written at once: the sender never has to wait for ever.
                credit.take(1).unwrap();
                if let Some(more) = renew(&mut credit, written) {
                    assert!(more - limit >= window.div_ceil(2) || more == 20);
                    limit = more;
                    limits.push(more);
                }
            }
            assert_eq!((limits.last(), credit.promised(20)), (Some(&20), 0));
            assert!(limits.len() as u64 <= 20_u64.div_ceil(window.div_ceil(2)), "{limits:?}");
        }
    }

    #[test]
    fn nothing_may_come_before_its_memory_is_granted() {
        let mut credit = Credit::new(20, 8, 2);
        assert_eq!(credit.ask(2), Some(8));
        assert_eq!(credit.take(1), Err(TransferViolation::BeyondCredit { end: 3, limit: 2 }));
        assert_eq!(credit.grant(), Some(10));
        credit.take(8).unwrap();
        assert_eq!((credit.ask(5), credit.ask(6)), (None, Some(4)));
    }

    #[test]
    fn sizes_beyond_four_gibibytes_are_counted_right() {
        let size = 9 * GIB;
        let mut credit = Credit::new(size, GIB, 5 * GIB);
        renew(&mut credit, 5 * GIB).unwrap();
        credit.take(1 << 10).unwrap();
        assert_eq!(credit.received, 5 * GIB + (1 << 10));
        assert_eq!(renew(&mut credit, 5 * GIB + (1 << 10)), None);
        credit.received = 6 * GIB;
        let beyond = TransferViolation::BeyondCredit { end: 6 * GIB + 1, limit: 6 * GIB };
        assert_eq!(credit.take(1), Err(beyond));
        assert_eq!(renew(&mut credit, 6 * GIB), Some(7 * GIB));
        assert_eq!(renew(&mut credit, 8 * GIB + 1), Some(size));
        credit.received = 8 * GIB + 1;
        let few = TransferViolation::TooFew { received: 8 * GIB + 1, size };
        assert_eq!(credit.check_whole(), Err(few));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        for size in [i64::MAX as u64, u64::MAX] {
            let mut credit = Credit::new(size, u64::MAX, 4);
            assert_eq!(renew(&mut credit, 4), Some(size));
            credit.take(4).unwrap();
            assert_eq!(renew(&mut credit, 8), None);
            credit.received = size - 1;
            assert!(credit.take(2).is_err());
            assert_eq!(credit.take(1), Ok(()));
            assert_eq!(renew(&mut credit, size), None);
        }
    }
}
