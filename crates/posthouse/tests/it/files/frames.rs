//! The frames of file transfers, for raw peers that do not use the framework.

use posthouse::Endpoint;

use super::file_handler::FileHandler;
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

/// Returns the hello of a peer that supports transfers and receives payloads of this size.
pub fn greeting(payload_bytes_max: u32) -> Vec<u8> {
    let mut hello = crate::raw::hello(0, payload_bytes_max);
    hello[15] |= 1; // the features: after the frame head (5), the magic (8), the version (2)
    hello
}

/// Sends the hello of [`greeting`], and waits for the answer.
pub fn greet_with(harness: &Harness<'_>, raw: &mut Raw, payload_bytes_max: u32) {
    raw.send(&greeting(payload_bytes_max));
    let (kind, _) = harness.read_frame(raw);
    assert_eq!(kind, 4, "the answer is not a hello");
}

pub fn greet(harness: &Harness<'_>, raw: &mut Raw) {
    greet_with(harness, raw, 1 << 20);
}

/// Connects a peer from the address of `host`, and exchanges the hellos. For the simulation.
pub fn peer_from(harness: &Harness<'_>, server: &Endpoint<FileHandler>, host: u8) -> Raw {
    let address = server.addresses()[0].to_string();
    let stream = harness.world().dial_from([10, 66, 0, host].into(), &address);
    let mut raw = Raw::simulated(stream);
    greet(harness, &mut raw);
    raw
}

pub fn offer(id: u32, size: u64, name: &[u8]) -> Vec<u8> {
    offer_for(id, 0, size, name)
}

/// Returns the payload of an offer that answers the get with the id `answers`.
pub fn offer_for(id: u32, answers: u32, size: u64, name: &[u8]) -> Vec<u8> {
    offer_with(id, answers, size, 0, &[], name)
}

/// Returns the payload of an offer with flags and attributes.
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

/// Returns a payload that begins with an id.
pub fn numbered(id: u32, rest: &[u8]) -> Vec<u8> {
    [&id.to_le_bytes()[..], rest].concat()
}

/// Waits for the next abort with this id. Returns its code and its text.
pub fn aborted(harness: &Harness<'_>, raw: &mut Raw, id: u32) -> (u16, String) {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind == ABORT && payload[..4] == id.to_le_bytes() {
            let code = u16::from_le_bytes([payload[4], payload[5]]);
            return (code, String::from_utf8_lossy(&payload[6..]).into_owned());
        }
        assert!(kind > 9, "a frame of kind {kind} does not belong to a transfer");
    }
}

/// Waits for the next accept. Returns its offset and its limit. Skips `working` frames before it.
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

/// Accepts a file from its first byte up to `limit`.
pub fn accept(raw: &mut Raw, id: u32, limit: u64) {
    let nothing = posthouse_wire::file_hash(b"");
    let rest = [&0_u64.to_le_bytes()[..], &limit.to_le_bytes(), &nothing].concat();
    raw.send_frame(ACCEPT, &numbered(id, &rest));
}

/// Waits for the next offer. Returns its id.
pub fn next_offer(harness: &Harness<'_>, raw: &mut Raw) -> u32 {
    loop {
        let (kind, payload) = harness.read_frame(raw);
        if kind == OFFER {
            return u32::from_le_bytes(payload[..4].try_into().expect("an id has four bytes"));
        }
        assert!(kind > 9, "a frame of kind {kind} does not belong to a transfer");
    }
}
