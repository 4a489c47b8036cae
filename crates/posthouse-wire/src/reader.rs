//! The reader: takes chunks as they arrive and returns whole frames.

use crate::framing::NATIVE_HEAD_BYTES;
use crate::{Delimiter, Foreign, FrameError, Framing, LengthField, op_count};

/// The configuration of a reader. All connections of a listener, or of a target, share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderConfig {
    /// The framing of the stream.
    pub framing: Framing,
    /// The longest payload that the reader accepts, in bytes.
    pub max_payload_bytes: usize,
}

/// One whole received message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The kind; 0 in every framing except the native one.
    pub kind: u8,
    /// The message.
    pub payload: &'a [u8],
}

/// Cuts one stream into frames.
///
/// If a chunk contains the whole frame, the reader borrows the frame from it. If a frame extends
/// over several chunks, the reader assembles it on the heap. This memory grows only with received
/// bytes, at most to twice their number, and the next call releases it. Call [`Reader::next`] until
/// it returns `None`:
///
/// ```
/// use posthouse_wire::{Framing, Reader, ReaderConfig};
/// let config = ReaderConfig { framing: Framing::Lines, max_payload_bytes: 1024 };
/// let mut reader = Reader::new();
/// let mut lines = Vec::new();
/// for mut chunk in [&b"one\ntw"[..], b"o\r\n"] {
///     while let Some(frame) = reader.next(&config, 1024, &mut chunk).unwrap() {
///         lines.push(frame.payload.to_vec());
///     }
/// }
/// assert_eq!(lines, [b"one", b"two"]);
/// ```
#[derive(Debug, Default)]
pub struct Reader {
    /// The received bytes of the partial frame; the whole frame while `handed_out`.
    assembly: Vec<u8>,
    /// The number of bytes of the delimiter with which the assembly ends.
    matched: u8,
    /// True exactly when the frame in `assembly` was given to the caller.
    handed_out: bool,
    /// True exactly when [`Reader::next`] has returned a frame whose head contains the length. The
    /// reader then no longer looks for other protocols.
    past_first: bool,
}

const _: () = assert!(size_of::<Reader>() <= 56);

impl Reader {
    /// Makes a reader for a stream from its beginning.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the next frame and advances `input` past it. Returns `None` when the reader has
    /// taken all of `input` and no frame is complete.
    ///
    /// The limit of a payload is the smaller of `max_payload_bytes` and the limit of the
    /// configuration. The argument is for a connection with a smaller limit of its own, for example
    /// before its admission.
    ///
    /// # Errors
    /// [`FrameError`] if the stream contains an invalid frame or one above the limit. The rest of
    /// the stream cannot be read: drop the reader.
    pub fn next<'r, 'i: 'r>(
        &'r mut self,
        config: &ReaderConfig,
        max_payload_bytes: usize,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'r>>, FrameError> {
        self.release();
        let max = max_payload_bytes.min(config.max_payload_bytes);
        match &config.framing {
            Framing::Native => self.next_announced(Head::Native, max, input),
            Framing::Length(field) => self.next_announced(Head::Length(field), max, input),
            Framing::Lines => self.next_ended(End::Line, max, input),
            Framing::Delimiter(delimiter) => self.next_ended(End::At(delimiter), max, input),
            Framing::Raw => Ok(next_raw(max, input)),
        }
    }

    /// Returns the next frame and advances `input` past it, if `input` contains the whole frame,
    /// the frame is valid, and `accepts` returns true for its kind. Otherwise returns `None` and
    /// takes nothing, for any reason: call [`Reader::next`] then, which handles all cases.
    ///
    /// This is the fast path for most frames of most streams. It is never taken for the first frame
    /// of a stream, nor in the framings `Lines`, `Delimiter` and `Raw`.
    #[inline]
    pub fn next_whole<'i>(
        &mut self,
        config: &ReaderConfig,
        max_payload_bytes: usize,
        accepts: impl FnOnce(u8) -> bool,
        input: &mut &'i [u8],
    ) -> Option<Frame<'i>> {
        self.release();
        if !self.past_first || !self.assembly.is_empty() {
            return None;
        }
        let head = match &config.framing {
            Framing::Native => Head::Native,
            Framing::Length(field) => Head::Length(field),
            Framing::Lines | Framing::Delimiter(_) | Framing::Raw => return None,
        };
        let max = max_payload_bytes.min(config.max_payload_bytes);
        let bytes = head.frame_bytes(input, max, false).ok().flatten()?;
        let (frame, rest) = input.split_at_checked(bytes)?;
        let frame = head.open(frame);
        if !accepts(frame.kind) {
            return None;
        }
        *input = rest;
        Some(frame)
    }

    /// Returns the number of bytes of a partial frame that the reader holds; 0 between frames.
    pub fn held(&self) -> usize {
        if self.handed_out { 0 } else { self.assembly.len() }
    }

    /// Returns the bytes of heap memory in use: at most twice the received bytes of one frame, at
    /// most the announced size of the frame, and 0 between frames.
    pub fn allocated(&self) -> usize {
        self.assembly.capacity()
    }

    /// Returns true exactly when a frame has begun and is not complete.
    pub fn is_partial(&self) -> bool {
        self.held() > 0
    }

    /// Takes note that the stream has ended. With `Lines` it returns a last line without its `\n`
    /// as a message, as text tools do. In any other framing an unfinished frame is lost, and
    /// [`Reader::is_partial`] stays true.
    pub fn finish(&mut self, config: &ReaderConfig) -> Option<Frame<'_>> {
        self.release();
        if config.framing != Framing::Lines || self.assembly.is_empty() {
            return None;
        }
        self.handed_out = true;
        let line = &self.assembly[..];
        Some(Frame { kind: 0, payload: line.strip_suffix(b"\r").unwrap_or(line) })
    }

    /// Returns the next frame of a framing in which the head contains the length.
    fn next_announced<'r, 'i: 'r>(
        &'r mut self,
        head: Head<'_>,
        max: usize,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'r>>, FrameError> {
        if self.assembly.is_empty() {
            let frame_bytes = head.frame_bytes(input, max, !self.past_first)?;
            if let Some((frame, rest)) = frame_bytes.and_then(|bytes| input.split_at_checked(bytes))
            {
                *input = rest;
                self.past_first = true;
                return Ok(Some(head.open(frame)));
            }
        }
        loop {
            let frame_bytes = head.frame_bytes(&self.assembly, max, !self.past_first)?;
            if frame_bytes == Some(self.assembly.len()) {
                self.past_first = true;
                self.handed_out = true;
                return Ok(Some(head.open(&self.assembly)));
            }
            if input.is_empty() {
                return Ok(None);
            }
            // Holds the head alone at first, to check the size before it holds more.
            let wanted = frame_bytes.unwrap_or(head.bytes());
            let bytes = input.len().min(wanted - self.assembly.len());
            self.hold(bytes, wanted, input);
        }
    }

    /// Returns the next frame of a framing in which a delimiter ends the frame.
    fn next_ended<'r, 'i: 'r>(
        &'r mut self,
        end: End<'_>,
        max: usize,
        input: &mut &'i [u8],
    ) -> Result<Option<Frame<'r>>, FrameError> {
        let found = end.find(&mut self.matched, input);
        let bytes = found.unwrap_or(input.len());
        // The payload does not include bytes of the end, nor bytes that may be its beginning.
        let tail = input[..bytes].last().or(self.assembly.last());
        let end_bytes = match (end, found) {
            (End::At(delimiter), Some(_)) => delimiter.bytes().len(),
            (End::At(_), None) => usize::from(self.matched),
            (End::Line, None) => usize::from(tail == Some(&b'\r')),
            (End::Line, Some(at)) => {
                let before = at.checked_sub(2).map(|at| &input[at]).or(self.assembly.last());
                1 + usize::from(before == Some(&b'\r'))
            }
        };
        let frame_bytes = self.assembly.len() + bytes;
        let payload_bytes = frame_bytes - end_bytes;
        if payload_bytes > max {
            return Err(FrameError::TooLarge { announced: payload_bytes as u64, max });
        }
        if found.is_some() && self.assembly.is_empty() {
            let (frame, rest) = input.split_at(bytes);
            *input = rest;
            return Ok(Some(Frame { kind: 0, payload: &frame[..payload_bytes] }));
        }
        self.hold(bytes, if found.is_some() { frame_bytes } else { usize::MAX }, input);
        if found.is_none() {
            return Ok(None);
        }
        self.handed_out = true;
        Ok(Some(Frame { kind: 0, payload: &self.assembly[..payload_bytes] }))
    }

    /// Moves `bytes` of `input` to the assembly of a frame of at most `max_frame_bytes`. The
    /// capacity doubles, which makes the copying linear, but never exceeds `max_frame_bytes`.
    fn hold(&mut self, bytes: usize, max_frame_bytes: usize, input: &mut &[u8]) {
        let (taken, rest) = input.split_at(bytes);
        *input = rest;
        let len = self.assembly.len();
        let needed = self.assembly.len() + bytes;
        if needed > self.assembly.capacity() {
            op_count::add(len);
            self.assembly.reserve_exact(needed.max((2 * len).min(max_frame_bytes)) - len);
        }
        op_count::add(bytes);
        self.assembly.extend_from_slice(taken);
    }

    /// Releases the frame that was handed out, and its memory: an idle connection needs no heap.
    #[inline]
    fn release(&mut self) {
        if self.handed_out {
            self.handed_out = false;
            self.assembly = Vec::new();
        }
    }
}

/// The head of a frame, with the length in it.
#[derive(Clone, Copy)]
enum Head<'a> {
    Native,
    Length(&'a LengthField),
}

impl Head<'_> {
    /// Returns the number of bytes that contain the length.
    fn bytes(self) -> usize {
        match self {
            Self::Native => 4,
            Self::Length(field) => field.head_bytes(),
        }
    }

    /// Returns the size of the frame at the start of `start`, or `None` if its length has not
    /// arrived in whole.
    fn frame_bytes(
        self,
        start: &[u8],
        max: usize,
        is_first: bool,
    ) -> Result<Option<usize>, FrameError> {
        if start.len() < self.bytes() {
            return Ok(None);
        }
        let Self::Length(field) = self else {
            let checked = native_frame_bytes(start, max);
            return match checked {
                Err(error) if is_first => {
                    Err(Foreign::guess(start).map_or(error, FrameError::Foreign))
                }
                Ok(_) if is_first && Foreign::is_short_tls_client_hello(start) => {
                    Err(FrameError::Foreign(Foreign::Tls))
                }
                checked => checked.map(Some),
            };
        };
        field.frame_bytes(start, max).map(Some)
    }

    fn open(self, frame: &[u8]) -> Frame<'_> {
        match self {
            Self::Native => Frame { kind: frame[4], payload: &frame[NATIVE_HEAD_BYTES..] },
            Self::Length(field) => Frame { kind: 0, payload: &frame[usize::from(field.strip())..] },
        }
    }
}

fn native_frame_bytes(start: &[u8], max: usize) -> Result<usize, FrameError> {
    let length = u32::from_le_bytes([start[0], start[1], start[2], 0]);
    match (start[3], length.checked_sub(1)) {
        (0, Some(payload)) if payload as usize <= max => Ok(NATIVE_HEAD_BYTES + payload as usize),
        (0, Some(payload)) => Err(FrameError::TooLarge { announced: u64::from(payload), max }),
        (0, None) => Err(FrameError::TooShort { announced: 0, least: 1 }),
        (flags, _) => Err(FrameError::BadFlags { flags }),
    }
}

/// The end of a frame, which the reader must search for.
#[derive(Clone, Copy)]
enum End<'a> {
    Line,
    At(&'a Delimiter),
}

impl End<'_> {
    /// Returns the position just after the end. `matched` carries the state of the search from one
    /// chunk to the next.
    fn find(self, matched: &mut u8, input: &[u8]) -> Option<usize> {
        match self {
            Self::Line => {
                let end = input.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
                op_count::add(end.unwrap_or(input.len()));
                end
            }
            Self::At(delimiter) => delimiter.find_end(matched, input),
        }
    }
}

/// Returns the received bytes, at most `max` a message. A limit of 0 counts as 1, because otherwise
/// no byte would ever be delivered.
fn next_raw<'i>(max: usize, input: &mut &'i [u8]) -> Option<Frame<'i>> {
    let (payload, rest) = input.split_at(input.len().min(max.max(1)));
    *input = rest;
    (!payload.is_empty()).then_some(Frame { kind: 0, payload })
}

#[cfg(test)]
mod tests;
