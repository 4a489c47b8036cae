//! The frames that the attackers and the sink send, built by hand.

/// The largest payload that an ordinary peer announces.
pub(crate) const LARGEST: u32 = 1 << 20;

const HELLO: u8 = 4;
const OFFER: u8 = 10;
const ACCEPT: u8 = 11;
const GET: u8 = 18;
const LIST: u8 = 19;
const TRANSFERS: u32 = 1;
const IS_ANSWER: u8 = 0x80;
const PROVE: u8 = 0x01;
/// BLAKE3 of no bytes.
const HASH_OF_NOTHING: [u8; 32] = [
    0xaf, 0x13, 0x49, 0xb9, 0xf5, 0xf9, 0xa1, 0xa6, 0xa0, 0x40, 0x4d, 0xea, 0x36, 0xdc, 0xc9, 0x49,
    0x9b, 0xcb, 0x25, 0xc9, 0xad, 0xc1, 0x12, 0xb7, 0xcc, 0x9a, 0x93, 0xca, 0xe4, 0x1f, 0x32, 0x62,
];

/// Appends a frame whose payload is the concatenation of `parts`.
fn push(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    // The fourth byte, the flags, is 0 because no frame here is longer than 2^24.
    out.extend_from_slice(&(1 + payload as u32).to_le_bytes());
    out.push(kind);
    for part in parts {
        out.extend_from_slice(part);
    }
}

fn push_hello(out: &mut Vec<u8>, largest: u32, flags: u8) {
    let version = 1_u16.to_le_bytes();
    let heartbeat_ms = 0_u32.to_le_bytes();
    let nonce = [7; 16];
    let no_credential = 0_u16.to_le_bytes();
    let parts: [&[u8]; 8] = [
        b"POSTHOUS",
        &version,
        &TRANSFERS.to_le_bytes(),
        &largest.to_le_bytes(),
        &heartbeat_ms,
        &nonce,
        &[flags],
        &no_credential,
    ];
    push(out, HELLO, &parts);
}

/// Appends the hello of a client that accepts payloads of `largest` bytes.
pub(crate) fn push_client_hello(out: &mut Vec<u8>, largest: u32) {
    push_hello(out, largest, 0);
}

/// Returns the answer of a server, which demands a proof if it has a key.
pub(crate) fn answer(with_key: bool) -> Vec<u8> {
    let mut out = Vec::new();
    push_hello(&mut out, LARGEST, if with_key { IS_ANSWER | PROVE } else { IS_ANSWER });
    out
}

/// Appends a message of the application.
pub(crate) fn push_message(out: &mut Vec<u8>, payload: &[u8]) {
    push(out, 0, &[payload]);
}

/// Appends a request for a file.
pub(crate) fn push_get(out: &mut Vec<u8>, id: u32, name: &str) {
    push(out, GET, &[&id.to_le_bytes(), name.as_bytes()]);
}

/// Appends a request for the first names of the directory.
pub(crate) fn push_list(out: &mut Vec<u8>, id: u32) {
    push(out, LIST, &[&id.to_le_bytes()]);
}

/// Appends an offer of a file that no get requested.
pub(crate) fn push_offer(out: &mut Vec<u8>, id: u32, size: u64, name: &str) {
    let not_given = i64::MIN.to_le_bytes();
    let no_mode = u16::MAX.to_le_bytes();
    let (no_flags, no_attributes) = ([0], [0; 2]);
    let (answers, id, size) = ([0; 4], id.to_le_bytes(), size.to_le_bytes());
    let parts: [&[u8]; 8] =
        [&id, &answers, &size, &not_given, &no_mode, &no_flags, &no_attributes, name.as_bytes()];
    push(out, OFFER, &parts);
}

/// Appends the accept of a whole file.
pub(crate) fn push_accept(out: &mut Vec<u8>, id: u32) {
    let (offset, limit) = (0_u64.to_le_bytes(), u64::MAX.to_le_bytes());
    push(out, ACCEPT, &[&id.to_le_bytes(), &offset, &limit, &HASH_OF_NOTHING]);
}

/// A reader of received frames that finds the ids of offers and discards everything else.
#[derive(Debug, Default)]
pub(crate) struct OfferReader {
    head: Vec<u8>,
    /// The number of bytes of the current frame that follow and have no use.
    skip: usize,
}

impl OfferReader {
    /// The bytes of the length, flags, kind and id.
    const HEAD_BYTES: usize = 9;

    /// Reads the next bytes of the stream and returns the ids of the offers that begin in them.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Vec<u32> {
        let mut ids = Vec::new();
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = self.missing().min(bytes.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.skip == 0 && self.head.len() >= 4 && self.missing() == 0 {
                ids.extend(self.end_head());
            }
        }
        ids
    }

    /// Returns the number of bytes that the current head lacks.
    fn missing(&self) -> usize {
        let Some(length) = self.head.first_chunk() else { return 4 - self.head.len() };
        let frame = 4 + u32::from_le_bytes(*length) as usize;
        frame.min(Self::HEAD_BYTES).saturating_sub(self.head.len())
    }

    fn end_head(&mut self) -> Option<u32> {
        let head = std::mem::take(&mut self.head);
        let length = u32::from_le_bytes(*head.first_chunk()?) as usize;
        self.skip = (4 + length).saturating_sub(head.len());
        let id = u32::from_le_bytes(*head.get(5..)?.first_chunk()?);
        (head[4] == OFFER).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_has_the_bytes_of_the_protocol() {
        let mut out = Vec::new();
        push_client_hello(&mut out, LARGEST);
        assert_eq!(out.len(), 46);
        assert_eq!(out[..5], [42, 0, 0, 0, 4]);
        assert_eq!(answer(true)[43], 0x81);
    }

    #[test]
    fn offers_are_found_in_a_stream_that_is_cut_anywhere() {
        let mut stream = Vec::new();
        push_message(&mut stream, b"");
        push_offer(&mut stream, 2, 5, "a");
        push_get(&mut stream, 3, "b");
        push_message(&mut stream, &[9; 100]);
        push_offer(&mut stream, 4, 5, "c");
        for size in 1..stream.len() {
            let mut reader = OfferReader::default();
            let found: Vec<u32> = stream.chunks(size).flat_map(|part| reader.read(part)).collect();
            assert_eq!(found, [2, 4], "pieces of {size} bytes");
        }
    }
}
