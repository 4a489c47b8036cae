//! One receive buffer for all connections of a thread. So an idle connection holds no buffer; only
//! the beginning of an incomplete frame is kept separately.

use std::io;

use crate::frame::{self, FRAME_BYTES_MAX, WORD_BYTES};

/// The maximum number of bytes taken from a socket at once.
const RECEIVE_BYTES: usize = 256 * 1024;
/// The length below which a kept beginning is copied in front of the new bytes. A longer one is
/// completed in place, so that a large frame in small pieces costs linear time.
const REJOIN_BYTES_MAX: usize = 64 * 1024;

/// The receive buffer of a thread.
#[derive(Debug)]
pub struct Scratch {
    memory: Box<[u8]>,
}

/// The result of one receive.
#[derive(Debug)]
pub struct Received<'a> {
    /// Whole frames, one after the other; possibly none.
    pub frames: &'a [u8],
    /// True exactly when the peer's stream has ended.
    pub ended: bool,
    /// True exactly when the receive filled its memory, so that more bytes may be in the socket.
    pub more: bool,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { memory: vec![0; FRAME_BYTES_MAX + RECEIVE_BYTES].into() }
    }
}

impl Scratch {
    /// Calls `receive` once with memory for new bytes. The incomplete rest of the last frame goes
    /// to `partial`, which belongs to the connection. A peer that violates the protocol causes an
    /// error of the kind `InvalidData`.
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
        let word = *partial.first_chunk::<WORD_BYTES>().expect("the head has a length");
        let frame_bytes = frame::length(word).map_err(|_| io::ErrorKind::InvalidData)?;
        let room = frame_bytes - partial.len();
        let got = receive(&mut self.memory[..room])?;
        partial.extend_from_slice(&self.memory[..got]);
        let whole = if got == room { frame_bytes } else { 0 };
        self.memory[..whole].copy_from_slice(&partial[..whole]);
        partial.drain(..whole);
        if partial.is_empty() {
            // A connection that once had a large frame must not keep its memory forever.
            *partial = Vec::new();
        }
        Ok(Received { frames: &self.memory[..whole], ended: got == 0, more: got == room })
    }
}
