//! The log of everything that happens: always as one number, and as lines on request.

use super::{Nanos, duration};

/// The kind of an entry of the log.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    Step,
    Submitted,
    Queued,
    Taken,
    Bytes,
    Event,
    Woken,
    Asleep,
    Ended,
    Raw,
    Random,
    Jump,
    File,
    Disk,
    Abandoned,
    Discarded,
}

/// The fingerprint and, if requested, the lines.
#[derive(Debug, Default)]
pub(super) struct Log {
    hash: u64,
    lines: Option<Vec<String>>,
}

impl Log {
    /// Starts or stops keeping lines. Returns those kept so far.
    pub(super) fn keep(&mut self, on: bool) -> Vec<String> {
        std::mem::replace(&mut self.lines, on.then(Vec::new)).unwrap_or_default()
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.hash
    }

    pub(super) fn note(&mut self, now: Nanos, note: Note, a: u64, b: u64) {
        self.mix(now);
        self.mix(note as u64);
        self.mix(a);
        self.mix(b);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:?} {note:?} {a:#x} {b:#x}", duration(now)));
        }
    }

    /// Adds content to the fingerprint: the order of a hash map that slipped into a message is a
    /// divergence.
    pub(super) fn bytes(&mut self, now: Nanos, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
        self.note(now, Note::Bytes, bytes.len() as u64, self.hash);
    }

    fn mix(&mut self, value: u64) {
        // The form of FNV with a rotation, so that high bits reach low ones.
        self.hash = (self.hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}
