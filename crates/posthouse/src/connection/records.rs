//! The record layer of a connection, which opens received records and seals output. Most
//! connections have none.

use posthouse_io::Socket;

use super::input::{Chunk, End};
use super::{Connection, Context, Phase, Strand};
use crate::close::Close;
use crate::disconnect::{DisconnectKind, DisconnectReason};
use crate::record_layer::{Opened, RecordError, RecordLayer};

/// A record layer and its state.
pub(crate) struct Records {
    pub(super) layer: Box<dyn RecordLayer>,
    /// The beginning of a record whose rest has not arrived.
    carry: Vec<u8>,
    /// The length of `carry` that the next attempt to open it needs.
    needed: usize,
    stage: Stage,
}

/// The stage of a record layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The handshake is not done.
    Handshake,
    /// The handshake is done, and plain bytes can be sealed.
    Ready,
    /// This side's stream has been ended.
    Ended,
}

/// The result of opening the next record of a chunk.
#[derive(Debug)]
pub(super) enum Next {
    /// The chunk has more plain bytes, or fewer records.
    Opened,
    /// The last record of the chunk is not whole.
    Partial,
    /// The peer has ended its stream.
    Ended,
    Failed(RecordError),
}

impl Records {
    pub(super) fn new(layer: Box<dyn RecordLayer>) -> Self {
        Self { layer, carry: Vec::new(), needed: 0, stage: Stage::Handshake }
    }

    /// Returns the memory of the beginning of a record.
    pub(super) fn carried_bytes(&self) -> usize {
        self.carry.capacity()
    }

    /// Drops a partial record that will not be completed.
    pub(super) fn discard(&mut self) {
        self.carry = Vec::new();
    }

    fn open(&mut self, chunk: &mut Chunk) -> Next {
        chunk.joined = None;
        chunk.plain = 0..0;
        if !self.carry.is_empty() {
            return self.open_carried(chunk);
        }
        let start = chunk.rest.start;
        match self.layer.open(&mut chunk.buffer[chunk.rest.clone()]) {
            Ok(Opened::Record { bytes, plain }) => {
                chunk.plain = start + plain.start..start + plain.end;
                chunk.rest.start += bytes;
                Next::Opened
            }
            Ok(Opened::Partial { needed }) => {
                self.carry = Vec::with_capacity(needed);
                self.carry.extend_from_slice(&chunk.buffer[chunk.rest.clone()]);
                self.needed = needed;
                chunk.rest.start = chunk.rest.end;
                Next::Partial
            }
            Ok(Opened::Ended) => Next::Ended,
            Err(error) => Next::Failed(error),
        }
    }

    /// Completes the partial record with bytes of the chunk.
    fn open_carried(&mut self, chunk: &mut Chunk) -> Next {
        loop {
            let missing = self.needed.saturating_sub(self.carry.len());
            let taken = missing.min(chunk.rest.len());
            let from = chunk.rest.start;
            self.carry.reserve_exact(missing);
            self.carry.extend_from_slice(&chunk.buffer[from..from + taken]);
            chunk.rest.start += taken;
            if taken < missing {
                return Next::Partial;
            }
            match self.layer.open(&mut self.carry) {
                Ok(Opened::Record { bytes, plain }) => {
                    assert_eq!(bytes, self.carry.len(), "a record is opened when it is whole");
                    chunk.joined = Some(std::mem::take(&mut self.carry));
                    chunk.plain = plain;
                    return Next::Opened;
                }
                Ok(Opened::Partial { needed }) => {
                    assert!(needed > self.carry.len(), "a partial record needs more");
                    self.needed = needed;
                }
                Ok(Opened::Ended) => return Next::Ended,
                Err(error) => return Next::Failed(error),
            }
        }
    }
}

impl Connection {
    /// Acts on the result of [`Strand::open_record`].
    pub(super) fn on_opened(&mut self, cx: &mut Context<'_>, chunk: &mut Chunk, next: Next) {
        match next {
            Next::Opened => self.strand.on_records_ready(cx),
            Next::Partial => {}
            Next::Ended => {
                chunk.rest.start = chunk.rest.end;
                self.input.end = self.input.end.or(Some(End::Ended));
            }
            Next::Failed(error) => self.strand.on_bad_record(cx, &error),
        }
    }
}

impl Strand {
    /// Returns whether the bytes of this connection are records.
    #[inline]
    pub(crate) fn has_records(&self) -> bool {
        self.cold.as_ref().is_some_and(|cold| cold.records.is_some())
    }

    pub(super) fn records(&mut self) -> Option<&mut Records> {
        self.cold.as_mut()?.records.as_deref_mut()
    }

    /// Opens the next record of a chunk whose plain bytes have been delivered.
    pub(super) fn open_record(&mut self, chunk: &mut Chunk) -> Next {
        match self.records() {
            Some(records) => records.open(chunk),
            None => unreachable!("a chunk of records on a plain connection"),
        }
    }

    /// Begins a connection whose socket is connected: with the handshake of its record layer, if
    /// the configuration has one.
    pub(super) fn begin_stream(&mut self, cx: &mut Context<'_>, socket: Socket) {
        if let Some(make) = &self.config.record_layer {
            let records = Records::new(make.make());
            self.cold().records = Some(Box::new(records));
            self.on_records_ready(cx);
        } else {
            self.on_plain_stream(cx, socket);
        }
    }

    /// Begins the hello once the handshake is done.
    fn on_records_ready(&mut self, cx: &mut Context<'_>) {
        let Some(records) = self.records() else { return };
        if records.stage != Stage::Handshake || !records.layer.is_ready() {
            return;
        }
        records.stage = Stage::Ready;
        if let Phase::Opening(opening) = &self.phase {
            let socket = opening.socket;
            self.on_plain_stream(cx, socket);
        }
    }

    fn on_bad_record(&mut self, cx: &mut Context<'_>, error: &RecordError) {
        let reason = DisconnectReason::new(DisconnectKind::Protocol, error.to_string());
        self.close(cx, Close::abort(), reason);
    }

    /// Returns whether the queue or the record layer has something to send.
    pub(super) fn wants_send(&self) -> bool {
        let records = self.cold.as_ref().and_then(|cold| cold.records.as_deref());
        match records {
            None => self.output.wants_send(),
            Some(records) => {
                !self.output.is_in_flight()
                    && (self.output.wants_send() || records.layer.has_output())
            }
        }
    }

    /// Makes the record layer end this side's stream once the whole queue is sealed.
    pub(super) fn end_records(&mut self) {
        if matches!(self.phase, Phase::Draining(_))
            && self.output.queued_bytes() == 0
            && let Some(records) = self.records()
            && records.stage == Stage::Ready
        {
            records.stage = Stage::Ended;
            records.layer.end();
        }
    }

    /// Returns whether all output has been sent.
    pub(super) fn has_drained(&self) -> bool {
        self.output.queued_bytes() == 0 && !self.output.is_in_flight() && !self.wants_send()
    }
}
