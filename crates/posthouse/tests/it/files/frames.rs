//! Frames of transfers, as a peer without the framework writes and reads them.

use crate::harness::Harness;
use crate::raw::Raw;

pub const OFFER: u8 = 10;
pub const ACCEPT: u8 = 11;
pub const CHUNK: u8 = 12;
pub const CREDIT: u8 = 13;
pub const DONE: u8 = 14;
pub const ABORT: u8 = 15;
pub const GET: u8 = 18;
pub const LIST: u8 = 19;
pub const LISTED: u8 = 20;
pub const WORKING: u8 = 21;
/// The code of an abort because of the quota.
pub const QUOTA: u16 = 14;

/// A hello with the feature of transfers, of a peer that takes payloads of this size.
pub fn greeting(payload_bytes_max: u32) -> Vec<u8> {
    let mut hello = crate::raw::hello(0, payload_bytes_max);
    hello[15] |= 1; // the feature: frame head 5, magic 8, version 2
    hello
}

/// Says that hello, and waits for the answer.
pub fn greet_with(harness: &Harness<'_>, raw: &mut Raw, payload_bytes_max: u32) {
    raw.send(&greeting(payload_bytes_max));
    let (kind, _) = harness.read_frame(raw);
    assert_eq!(kind, 4, "the answer");
}

pub fn greet(harness: &Harness<'_>, raw: &mut Raw) {
    greet_with(harness, raw, 1 << 20);
}

pub fn offer(id: u32, size: u64, name: &[u8]) -> Vec<u8> {
    offer_for(id, 0, size, name)
}

/// An offer that answers a get.
pub fn offer_for(id: u32, answers: u32, size: u64, name: &[u8]) -> Vec<u8> {
    offer_with(id, answers, size, 0, &[], name)
}

/// An offer with flags and attributes.
pub fn offer_with(
    id: u32,
    answers: u32,
    size: u64,
    flags: u8,
    attributes: &[u8],
    name: &[u8],
) -> Vec<u8> {
    let mut payload = id.to_le_bytes().to_vec();
    payload.extend_from_slice(&answers.to_le_bytes());
    payload.extend_from_slice(&size.to_le_bytes());
    payload.extend_from_slice(&1_700_000_000_000_000_000_i64.to_le_bytes());
    payload.extend_from_slice(&0o644_u16.to_le_bytes());
    payload.push(flags);
    payload.extend_from_slice(&(attributes.len() as u16).to_le_bytes());
    payload.extend_from_slice(attributes);
    payload.extend_from_slice(name);
    payload
}

pub fn chunk(id: u32, bytes: &[u8]) -> Vec<u8> {
    numbered(id, bytes)
}

/// A payload that begins with a number.
pub fn numbered(id: u32, rest: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], rest].concat()
}

/// The next abort for this id: its code and text.
pub fn aborted(harness: &Harness<'_>, raw: &mut Raw, id: u32) -> (u16, String) {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind == ABORT && payload[..4] == id.to_le_bytes() {
            let code = u16::from_le_bytes([payload[4], payload[5]]);
            return (code, String::from_utf8_lossy(&payload[6..]).into_owned());
        }
        assert!(kind > 9, "a frame of a transfer: {kind}");
    }
}

/// Returns the offset and the credit of the next accept. The other side may say before that it
/// works.
pub fn accepted(harness: &Harness<'_>, raw: &mut Raw) -> (u64, u64) {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind != WORKING {
            assert_eq!(kind, ACCEPT, "{payload:?}");
            let word = |at: usize| u64::from_le_bytes(payload[at..at + 8].try_into().unwrap());
            return (word(4), word(12));
        }
    }
}

/// Accepts a file from its beginning, up to `limit`.
pub fn accept(raw: &mut Raw, id: u32, limit: u64) {
    let nothing = posthouse_wire::file_hash(b"");
    let rest = [&0_u64.to_le_bytes()[..], &limit.to_le_bytes(), &nothing].concat();
    raw.send_frame(ACCEPT, &numbered(id, &rest));
}

/// Returns the number of the next offer.
pub fn next_offer(harness: &Harness<'_>, raw: &mut Raw) -> u32 {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind == OFFER {
            return u32::from_le_bytes(payload[..4].try_into().expect("a number"));
        }
        assert!(kind > 9, "a frame of a transfer: {kind}");
    }
}
