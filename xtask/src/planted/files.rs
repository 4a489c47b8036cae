//! The planted mistakes about files: each breaks one promise in one place.

use super::Mistake;

pub(super) const PLANTED: &[Mistake] = &[
    Mistake {
        name: "published_unverified",
        breaks: "T20: what arrived gets its name whatever its hash is",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"        if !receiving.incoming.done(hash)? {",
        replace: r"        let _ = receiving.incoming.done(hash)?;
        if false {",
    },
    Mistake {
        name: "done_before_published",
        breaks: "done is said before the file is there",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"        receiving.step = Step::Publishing;
        let op",
        replace: r"        receiving.step = Step::Publishing;
        let (id, hash) = (receiving.incoming.id(), receiving.incoming.hash());
        hands.say(TransferFrame::Done { id, hash });
        let receiving = self.receiving(place);
        let op",
    },
    Mistake {
        name: "found_and_not_synced",
        breaks: "a file that another is just publishing counts as being on the disk",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"return self.submit(hands, place, FileOp::SyncName { directory, path, file });",
        replace: r"let _ = (directory, path, file);
            return self.on_published(hands, place);",
    },
    Mistake {
        name: "prefix_not_compared",
        breaks: "T21: it goes on from whatever the receiver's part holds",
        file: "crates/posthouse-wire/src/transfer/sender.rs",
        find: r"        if self.hasher.finalize() != self.prefix {",
        replace: r"        if self.hasher.finalize() != self.hasher.finalize() {",
    },
    Mistake {
        name: "part_not_cut",
        breaks: "T21: what a part holds of another file counts as this one's",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"Step::Moving { of_final: false } if untouched => self.truncate(hands, place),",
        replace: r"Step::Moving { of_final: false } if untouched => {
                let receiving = self.receiving(place);
                let (id, size) = (receiving.incoming.id(), receiving.incoming.size());
                receiving.incoming = FileReceiver::new(id, size, receiving.window_bytes);
                receiving.held = 0;
                self.accept(hands, place);
            }",
    },
    Mistake {
        name: "sent_beyond_credit",
        breaks: "C8: the sender does not wait for credit",
        file: "crates/posthouse-wire/src/transfer/sender.rs",
        find: r"        self.limit = limit.min(size);",
        replace: r"        self.limit = size;",
    },
    Mistake {
        name: "credit_for_unwritten",
        breaks: "C8: credit is given for what came, not for what the disk took",
        file: "crates/posthouse-wire/src/transfer/receiver.rs",
        find: r"self.size.min(self.written.saturating_add(self.window_bytes))",
        replace: r"self.size.min(self.received.saturating_add(self.window_bytes))",
    },
    Mistake {
        name: "credit_not_renewed",
        breaks: "C4: a file larger than the window stops at its end",
        file: "crates/posthouse-wire/src/transfer/receiver.rs",
        find: r"        worth.then(|| {",
        replace: r"        (worth && self.size == 0).then(|| {",
    },
    Mistake {
        name: "two_writes_in_flight",
        breaks: "C5: a write begins before the one before it has ended",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"    fn write_on(&mut self, hands: &mut Hands<'_, '_, S>, place: u8) {
        if self.job(place).busy {
            return;
        }",
        replace: r"    fn write_on(&mut self, hands: &mut Hands<'_, '_, S>, place: u8) {
        self.job(place).busy = false;",
    },
    Mistake {
        name: "queue_dropped",
        breaks: "what was received is thrown away when the connection ends",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"(Leaving::Keep, Some(file)) if !receiving.queue.is_empty() => {",
        replace: r"(Leaving::Keep, Some(file)) if receiving.queue.len() > 1 << 40 => {",
    },
    Mistake {
        name: "part_removed_under_a_write",
        breaks: "what is being written when the connection ends is thrown away",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"{ Leaving::Nothing } else { Leaving::Keep }",
        replace: r"{
            Leaving::Nothing
        } else if self.queue.is_empty() && self.held.max(self.offset) == 0 {
            Leaving::Remove
        } else {
            Leaving::Keep
        }",
    },
    Mistake {
        name: "transferred_twice",
        breaks: "C6: the end of a transfer is told twice",
        file: "crates/posthouse/src/connection/transfers.rs",
        find: r"self.strand.call(self.cx, |handler, peer| handler.transferred(peer, &transfer));",
        replace: r"for _ in 0..2 {
            self.strand.call(self.cx, |handler, peer| handler.transferred(peer, &transfer));
        }",
    },
    Mistake {
        name: "transferred_not_told",
        breaks: "C6: files that wait for their turn are not told the end of the connection",
        file: "crates/posthouse/src/connection/transfers.rs",
        find: r"        errands.append(&mut self.waiting);",
        replace: r"        self.waiting.clear();",
    },
    Mistake {
        name: "place_taken_too_soon",
        breaks: "C3: a transfer's place is free while its operation is in flight",
        file: "crates/posthouse/src/connection/transfers.rs",
        find: r"        if !job.busy {
            self.jobs[usize::from(place)] = None;
        }",
        replace: r"        self.jobs[usize::from(place)] = None;",
    },
    Mistake {
        name: "exists_is_success",
        breaks: "T19: who comes second with a name is told that his file is there",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"(Step::Publishing, Err(error)) => Err(self.not_published(place, error)),",
        replace: r"(Step::Publishing, Err(error)) if error.failure == Failure::Exists => {
                self.on_published(hands, place);
                Ok(())
            }
            (Step::Publishing, Err(error)) => Err(self.not_published(place, error)),",
    },
    Mistake {
        name: "offer_said_again_too_late",
        breaks: "an offer that is said again when it is over ends the connection",
        file: "crates/posthouse/src/connection/transfers/frames.rs",
        find: r"                if self.known_id(hands, id, frame.kind()).is_ok() {",
        replace: r"                if false {",
    },
    Mistake {
        name: "room_not_spent",
        breaks: "T20: a file that has arrived escapes the quota",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"            reservation.spend(size - receiving.held);",
        replace: r"            drop(reservation);",
    },
    Mistake {
        name: "removed_by_a_reader",
        breaks: "a file that was there is treated as a part when its sender has another",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"            if receiving.step != (Step::Moving { of_final: true }) {",
        replace: r"            if true {",
    },
    Mistake {
        name: "part_left_behind",
        breaks: "a part keeps its name though the file has its own",
        file: "crates/posthouse/src/connection/transfers/receiving.rs",
        find: r"receiving.leaving = if of_final { Leaving::Nothing } else { Leaving::Remove };",
        replace: r"receiving.leaving = if of_final { Leaving::Nothing } else { Leaving::Keep };",
    },
    Mistake {
        name: "reservation_not_returned",
        breaks: "C8: the room of a transfer that failed stays taken",
        file: "crates/posthouse/src/directory.rs",
        find: r"            used.reserved_bytes -= self.bytes;",
        replace: r"            used.reserved_bytes -= self.bytes.min(1);",
    },
    Mistake {
        name: "offers_without_bound",
        breaks: "C8, T23: a peer begins as many transfers as it likes",
        file: "crates/posthouse/src/connection/transfers.rs",
        find: r"self.places_taken() < places_max && self.under_way(by_peer) < max",
        replace: r"self.places_taken() < places_max && self.under_way(by_peer) <= max",
    },
    Mistake {
        name: "chunk_without_its_head",
        breaks: "C5: what was queued before a chunk goes out behind it",
        file: "crates/posthouse/src/output.rs",
        find: r#"        assert_eq!(self.bulk_bytes(), 0, "one chunk at a time");
        self.close_tail(spares);"#,
        replace: r#"        assert_eq!(self.bulk_bytes(), 0, "one chunk at a time");"#,
    },
    Mistake {
        name: "known_hash_not_forgotten",
        breaks: "C4: a file whose hash is known wrongly is never sent again",
        file: "crates/posthouse/src/connection/transfers/sending.rs",
        find: r"            && error.doubts_the_file()",
        replace: r"            && error.is_by_peer() && !error.is_by_peer()",
    },
    Mistake {
        name: "zeros_not_told",
        breaks: "a file that could not be read is sent as zeros, and nobody says so",
        file: "crates/posthouse/src/connection.rs",
        find: r"                    strand.on_chunk_fault(cx, fault);",
        replace: r"                    let _ = fault;",
    },
    Mistake {
        name: "known_hash_of_another_state",
        breaks: "the hash of what a file was counts for what it is",
        file: "crates/posthouse/src/known_hashes.rs",
        find: r"        lock(&self.kept).hashes.get(&version).copied()",
        replace: r"        let _ = version;
        lock(&self.kept).hashes.values().next().copied()",
    },
    Mistake {
        name: "file_sent_from_its_beginning",
        breaks: "C5: every unread chunk is the first",
        file: "crates/posthouse/src/connection/transfers/sending.rs",
        find: r"FilePart::new(open.file.clone(), open.outgoing.sent(), bytes)",
        replace: r"FilePart::new(open.file.clone(), open.outgoing.sent().min(1), bytes)",
    },
    Mistake {
        name: "given_up_at_the_deadline",
        breaks: "C3: what would have ended is not awaited",
        file: "crates/posthouse/src/core.rs",
        find: r"        Some(self.shutdown_deadline()?.saturating_add(GIVE_UP_AFTER))",
        replace: r"        Some(self.shutdown_deadline()?.saturating_add(GIVE_UP_AFTER / 1000))",
    },
    Mistake {
        name: "never_given_up",
        breaks: "C3: a disk that hangs holds up a shutdown for ever",
        file: "crates/posthouse/src/connection/giving_up.rs",
        find: r"        if cx.core.life.gives_up_at().is_none_or(|at| cx.now < at) {",
        replace: r"        if cx.core.life.gives_up_at().is_none_or(|_| true) {",
    },
    Mistake {
        name: "given_up_and_not_kept",
        breaks: "C3: the late end of what was given up finds nobody",
        file: "crates/posthouse/src/worker/pinned.rs",
        find: r"            Fate::GivenUp => self.core.registry.give_up(id),",
        replace: r"            Fate::GivenUp => {
                self.table[place] = None;
                self.core.registry.give_up(id);
            }",
    },
];
