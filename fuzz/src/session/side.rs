//! The sides of a session, and the frames that a program sends on either of them.

use posthouse_wire::{
    Framing, OfferAttributes, ReplyStatus, Session, SessionConfig, TransferFrame, encode_reply,
    encode_request,
};

use crate::input::Input;

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

/// The maximum payload of a program's frame: every peer takes it.
const MAX_BYTES: usize = 40;

/// Appends a frame that a program may send in this state, if there is one.
pub(super) fn send(
    session: &Session,
    config: &SessionConfig,
    input: &mut Input<'_>,
    out: &mut Vec<u8>,
) {
    let max = session.send_limit(config);
    let choice = input.below(5);
    let number = input.array();
    let id = u32::from_le_bytes(number).max(1);
    let payload = input.bytes(MAX_BYTES);
    let result = match choice {
        0 | 1 if session.may_use_reserved_kinds() => match choice {
            0 => encode_request(id, number[0], payload, max, out),
            _ => encode_reply(id, ReplyStatus::Refused, number[0], payload, max, out),
        },
        2 if session.may_transfer() => TransferFrame::Get { id, name: payload }.encode(max, out),
        3 if session.may_transfer() => {
            use posthouse_wire::{Entry, EntryKind, Replace};
            let entry = Entry {
                kind: EntryKind::File,
                size: id.into(),
                modified_ns: None,
                mode: None,
                name: &payload[..payload.len().min(16)],
            };
            let attributes = OfferAttributes::default();
            let replace = Replace::Never;
            TransferFrame::Offer { id, in_reply_to: 0, entry, replace, attributes }.encode(max, out)
        }
        _ => {
            let kind = if number[0] < 32 { number[0] % 4 } else { number[0] };
            Framing::Native.encode(kind, payload, max, out)
        }
    };
    result.expect("a frame that every peer takes");
}
