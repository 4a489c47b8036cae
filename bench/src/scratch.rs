//! One receive buffer for all connections of a thread, so that an idle connection holds none: only
//! the beginning of a frame whose end has not come is kept apart.

use std::io;

use crate::frame::{self, FRAME_BYTES_MAX, WORD_BYTES};

/// Bytes taken from a socket at once.
const RECEIVE_BYTES: usize = 256 * 1024;
/// A kept beginning under this is put before the new bytes; a longer one is completed where it is,
/// so that a large frame in small pieces costs linear time.
const REJOIN_BYTES_MAX: usize = 64 * 1024;

/// The buffer of a thread.
#[derive(Debug)]
pub struct Scratch {
    memory: Box<[u8]>,
}

/// What one call gave.
#[derive(Debug)]
pub struct Received<'a> {
    /// Whole frames, one after the other; possibly none.
    pub frames: &'a [u8],
    /// True exactly when the peer's stream has ended.
    pub ended: bool,
    /// True exactly when there may be more in the socket: the room was filled.
    pub more: bool,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { memory: vec![0; FRAME_BYTES_MAX + RECEIVE_BYTES].into() }
    }
}

impl Scratch {
    /// Calls `receive` once with the room for new bytes; what is left of the last frame goes to
    /// `partial`, which belongs to the connection. A peer that breaks the rules is an error of the
    /// kind `InvalidData`.
    #[inline]
    pub fn receive(
        &mut self,
        partial: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Received<'_>> {
        let kept = partial.len();
        if kept >= REJOIN_BYTES_MAX {
            return self.receive_large(partial, receive);
        }
        self.memory[..kept].copy_from_slice(partial);
        let room = RECEIVE_BYTES;
        let got = receive(&mut self.memory[kept..kept + room])?;
        let bytes = &self.memory[..kept + got];
        let (whole, _) = frame::whole(bytes).map_err(|_| io::ErrorKind::InvalidData)?;
        partial.clear();
        partial.extend_from_slice(&bytes[whole..]);
        Ok(Received { frames: &bytes[..whole], ended: got == 0, more: got == room })
    }

    fn receive_large(
        &mut self,
        partial: &mut Vec<u8>,
        receive: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<Received<'_>> {
        let word = *partial.first_chunk::<WORD_BYTES>().expect("a long beginning has a length");
        let frame_bytes = frame::length(word).map_err(|_| io::ErrorKind::InvalidData)?;
        let room = frame_bytes - partial.len();
        let got = receive(&mut self.memory[..room])?;
        partial.extend_from_slice(&self.memory[..got]);
        let whole = if got == room { frame_bytes } else { 0 };
        self.memory[..whole].copy_from_slice(&partial[..whole]);
        partial.drain(..whole);
        if partial.is_empty() {
            // A connection that had a large frame once must not keep its memory for ever.
            *partial = Vec::new();
        }
        Ok(Received { frames: &self.memory[..whole], ended: got == 0, more: got == room })
    }
}
