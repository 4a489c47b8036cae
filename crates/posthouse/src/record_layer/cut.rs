//! A record layer without cryptography, for tests of the interface [`RecordLayer`]. It cuts the
//! stream into records of random sizes, disguises them, checks them, and has a handshake of two
//! rounds.

use posthouse_io::sim::SplitMix64;

use super::{Opened, RecordError, RecordLayer};

/// The head of a record: the size of its body and its type. One check byte follows the body.
const HEAD_BYTES: usize = 3;
/// The maximum size of a body.
const MAX_BODY_BYTES: u64 = 1500;
/// The byte that is XORed into every byte of a body.
const DISGUISE: u8 = 0x5a;

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const DATA: u8 = 3;
const END: u8 = 4;

/// A record layer for tests, which cuts the stream into records of random sizes.
#[derive(Debug)]
pub struct CutRecords {
    random: SplitMix64,
    output: Vec<u8>,
    ready: bool,
}

impl CutRecords {
    /// Makes one side of a stream. The seed determines the sizes of the records.
    pub fn new(seed: u64) -> Self {
        let mut layer = Self { random: SplitMix64::new(seed), output: Vec::new(), ready: false };
        append(HELLO, b"hello", &mut layer.output);
        layer
    }

    fn below(&mut self, end: u64) -> u64 {
        self.random.next_u64() % end
    }
}

fn append(kind: u8, body: &[u8], records: &mut Vec<u8>) {
    let length = u16::try_from(body.len()).expect("bodies are small");
    records.extend_from_slice(&length.to_le_bytes());
    records.push(kind);
    records.extend(body.iter().map(|byte| byte ^ DISGUISE));
    records.push(check(body));
}

fn check(body: &[u8]) -> u8 {
    body.iter().fold(0x11, |sum: u8, byte| sum.rotate_left(3) ^ byte)
}

impl RecordLayer for CutRecords {
    fn open(&mut self, records: &mut [u8]) -> Result<Opened, RecordError> {
        let Some((head, rest)) = records.split_first_chunk_mut::<HEAD_BYTES>() else {
            return Ok(Opened::Partial { needed: HEAD_BYTES });
        };
        let length = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let bytes = HEAD_BYTES + length + 1;
        if rest.len() < length + 1 {
            return Ok(Opened::Partial { needed: bytes });
        }
        let (body, rest) = rest.split_at_mut(length);
        for byte in body.iter_mut() {
            *byte ^= DISGUISE;
        }
        if check(body) != rest[0] {
            return Err(RecordError("a record is damaged".into()));
        }
        let plain = HEAD_BYTES..HEAD_BYTES + length;
        match head[2] {
            HELLO => append(WELCOME, b"welcome", &mut self.output),
            WELCOME => self.ready = true,
            DATA => return Ok(Opened::Record { bytes, plain }),
            END => return Ok(Opened::Ended),
            kind => return Err(RecordError(format!("a record of type {kind}").into())),
        }
        Ok(Opened::Record { bytes, plain: 0..0 })
    }

    fn seal(&mut self, plain: &[u8], records: &mut Vec<u8>) -> Result<usize, RecordError> {
        if !self.ready || plain.is_empty() {
            return Ok(0);
        }
        let most = 1 + self.below(MAX_BODY_BYTES) as usize;
        let body = &plain[..plain.len().min(most)];
        append(DATA, body, records);
        Ok(body.len())
    }

    fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    fn take_output(&mut self, records: &mut Vec<u8>) {
        records.append(&mut self.output);
    }

    fn is_ready(&self) -> bool {
        self.ready
    }

    fn end(&mut self) {
        append(END, b"", &mut self.output);
    }
}
