//! Frames of a peer: of every kind, with fields of every value, whole or spoilt.

use crate::input::Input;

const MAGIC: &[u8] = b"POSTHOUS";

pub(crate) const HELLO: u8 = 4;
pub(crate) const BYE: u8 = 5;
pub(crate) const PROVE: u8 = 6;
pub(crate) const WELCOME: u8 = 7;
pub(crate) const REQUEST: u8 = 8;
pub(crate) const REPLY: u8 = 9;
const OFFER: u8 = 10;
pub(crate) const ACCEPT: u8 = 11;
pub(crate) const CHUNK: u8 = 12;
pub(crate) const CREDIT: u8 = 13;
pub(crate) const DONE: u8 = 14;
pub(crate) const ABORT: u8 = 15;
pub(crate) const PING: u8 = 16;
pub(crate) const PONG: u8 = 17;
pub(crate) const GET: u8 = 18;
pub(crate) const LIST: u8 = 19;
pub(crate) const LISTED: u8 = 20;
pub(crate) const WORKING: u8 = 21;

/// The bytes of a frame before its payload.
pub(crate) const HEAD_BYTES: usize = 5;

/// Makes a native frame.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = (payload.len() as u32 + 1).to_le_bytes();
    [&[a, b, c, 0, kind][..], payload].concat()
}

/// Returns the largest payload that a valid hello announces.
pub(crate) fn max_payload_bytes(hello: &[u8]) -> u32 {
    let field = hello[HEAD_BYTES + 14..].first_chunk().expect("a whole hello");
    u32::from_le_bytes(*field)
}

/// Makes any frame.
pub(crate) fn any_frame(input: &mut Input<'_>) -> Vec<u8> {
    let kind = match input.byte() {
        reserved @ 0..0xe0 => HELLO + reserved % 20,
        other => other,
    };
    let mut payload = any_payload(input, kind);
    match input.byte() {
        0..0xc0 => {}
        0xc0..0xd0 => payload.truncate(input.below(payload.len() + 1)),
        0xd0..0xd8 => payload.extend_from_slice(input.bytes(40)),
        _ if payload.is_empty() => {}
        _ => {
            let at = input.below(payload.len());
            payload[at] = input.byte();
        }
    }
    let mut bytes = frame(kind, &payload);
    if input.rarely(32) {
        bytes[input.below(4)] = input.byte();
    }
    bytes
}

fn any_payload(input: &mut Input<'_>, kind: u8) -> Vec<u8> {
    let mut out = Vec::new();
    match kind {
        HELLO => hello(input, &mut out),
        BYE => {
            out.extend(input.array::<6>());
            text(input, &mut out);
        }
        PROVE | WELCOME => out.extend(input.array::<32>()),
        PING | PONG => out.extend(input.array::<8>()),
        REQUEST | REPLY => {
            out.extend(input.array::<6>());
            out.extend_from_slice(input.bytes(64));
        }
        OFFER..=ABORT | GET..=WORKING => {
            out.extend((input.number() as u32).to_le_bytes());
            transfer(input, kind, &mut out);
        }
        _ => out.extend_from_slice(input.bytes(64)),
    }
    out
}

fn hello(input: &mut Input<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend((input.near(1) as u16).to_le_bytes());
    out.extend((input.near(1) as u32).to_le_bytes());
    out.extend((input.near(1 << 20) as u32).to_le_bytes());
    out.extend((input.number() as u32).to_le_bytes());
    out.extend(input.array::<16>());
    out.push([0, 0x80, 0x81, input.byte()][input.below(4)]);
    let credential = input.bytes(32);
    out.extend((input.near(credential.len() as u64) as u16).to_le_bytes());
    out.extend_from_slice(credential);
}

fn transfer(input: &mut Input<'_>, kind: u8, out: &mut Vec<u8>) {
    match kind {
        OFFER => {
            out.extend((input.number() as u32).to_le_bytes());
            description(input, out);
            let mut block = Vec::new();
            for _ in 0..input.below(4) {
                attribute(input, &mut block);
            }
            out.extend((input.near(block.len() as u64) as u16).to_le_bytes());
            out.extend(block);
            name(input, out);
        }
        ACCEPT => {
            out.extend(input.number().to_le_bytes());
            out.extend(input.number().to_le_bytes());
            out.extend(input.array::<32>());
        }
        CREDIT => out.extend(input.number().to_le_bytes()),
        DONE => {
            out.extend(input.array::<32>());
            if input.flag() {
                out.extend(input.array::<16>());
            }
        }
        ABORT => {
            out.extend(input.array::<2>());
            text(input, out);
        }
        LISTED => {
            out.push(input.byte());
            for _ in 0..input.below(4) {
                description(input, out);
                let at = out.len();
                name(input, out);
                let len = input.near((out.len() - at) as u64) as u16;
                out.splice(at..at, len.to_le_bytes());
            }
        }
        CHUNK | GET | LIST => name(input, out),
        _ => {}
    }
}

fn description(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let is_directory = input.rarely(4);
    let size = if is_directory { input.near(0) } else { input.number() };
    out.extend(size.to_le_bytes());
    out.extend(input.number().to_le_bytes());
    out.extend((input.number() as u16).to_le_bytes());
    out.push(if is_directory { 2 | input.byte() } else { input.byte() });
}

fn attribute(input: &mut Input<'_>, out: &mut Vec<u8>) {
    let (attribute, value) = match input.byte() {
        0..0x80 => (1, input.array::<16>().to_vec()),
        other => (other, input.bytes(20).to_vec()),
    };
    out.push(attribute);
    out.extend((input.near(value.len() as u64) as u16).to_le_bytes());
    out.extend(value);
}

/// Appends a name, or other bytes without a form.
fn name(input: &mut Input<'_>, out: &mut Vec<u8>) {
    match input.byte() {
        0..0x40 => out.extend_from_slice(b"a/b"),
        0x40..0xf0 => out.extend_from_slice(input.bytes(32)),
        byte => out.resize(out.len() + 1020 + usize::from(byte & 7), byte),
    }
}

/// Appends a text, which may be longer than a text can be, and cut in the middle of a character.
fn text(input: &mut Input<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(input.bytes(8));
    if input.rarely(8) {
        out.extend_from_slice("aäß€𝄞".repeat(input.below(64)).as_bytes());
    }
}
