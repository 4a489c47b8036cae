//! The checks at the end of a transfer and of a connection, against the disks and the other side.

use super::{AcceptedKind, Actor, Agreed, Coming, Inner, Reported, Want};
use crate::files::SERVER_PLACE;
use crate::ledger::{Side, was_not_reading};
use posthouse::{
    DisconnectKind, DisconnectReason, FinishedTransfer, TransferError, TransferErrorKind,
};

impl Inner {
    /// Notes the end of a transfer that this side has begun, and updates its want.
    pub(super) fn end_begun(
        &mut self,
        actor: Actor,
        transfer: &FinishedTransfer,
        want: Option<usize>,
        quiescent: bool,
    ) -> Result<(), String> {
        match transfer.result() {
            Ok(_) => self.summary.files += 1,
            Err(_) => self.summary.files_failed += 1,
        }
        let Some(want) = want else { return Ok(()) };
        let lasting = transfer.result().is_err_and(|error| !error.is_passing());
        let it = &mut self.wants[actor.place][want];
        it.under_way -= 1;
        it.rests = lasting;
        let over = match transfer.result() {
            Ok(_) => true,
            // It began while faults were possible, so any reason is possible.
            Err(_) if !quiescent => false,
            Err(error) => self.is_final(actor, want, error)?,
        };
        self.wants[actor.place][want].over |= over;
        Ok(())
    }

    /// Returns whether another attempt is useless. It is an error if the disks show no reason for
    /// that.
    fn is_final(&self, actor: Actor, want: usize, error: &TransferError) -> Result<bool, String> {
        use TransferErrorKind as Kind;
        if error.is_passing() {
            return Ok(false);
        }
        let Want { get, name, .. } = &self.wants[actor.place][want];
        let (from, to) =
            if *get { (SERVER_PLACE, actor.place) } else { (actor.place, SERVER_PLACE) };
        let path = self.disks.path_of(to, name);
        let sent = self.disks.disk(from).read(name);
        let there = self.disks.disk(to).read(&path);
        let so = match error.kind() {
            // The file may have appeared since.
            Kind::NotFound if sent.is_some() => return Ok(false),
            Kind::NotFound => true,
            // Another transfer has published the same content: the next attempt will succeed.
            Kind::Exists if there == sent => return Ok(false),
            Kind::Exists => there.is_some() || self.disks.may_be_a_directory(name),
            Kind::NoSpace | Kind::QuotaExceeded if to != SERVER_PLACE => false,
            // Other transfers may have reserved the room and not used it.
            Kind::NoSpace | Kind::QuotaExceeded => {
                let bytes = sent.map_or(0, |content| content.len());
                return Ok(self.disks.is_full_for(bytes as u64));
            }
            Kind::BadName => self.disks.may_be_a_directory(name),
            _ => false,
        };
        let text =
            "a transfer failed for good after the end of faults, and the disks show no reason";
        if so { Ok(true) } else { Err(text.to_owned()) }
    }

    /// Checks the reported success of a transfer against the disks.
    pub(super) fn check_content(
        &mut self,
        actor: Actor,
        transfer: &FinishedTransfer,
        kind: AcceptedKind,
    ) -> Result<(), String> {
        let Ok(hash) = transfer.result() else { return Ok(()) };
        let receiver = if transfer.is_incoming() { Some(actor.place) } else { actor.other };
        let Some(place) = receiver else { return Ok(()) };
        let path = self.disks.path_of(place, transfer.name());
        let disks = &mut self.disks;
        let bytes = match kind {
            AcceptedKind::File => disks.promise(place, path, hash)?,
            AcceptedKind::Directory => disks.promise_directory(place, path, hash)?,
            AcceptedKind::Either => disks
                .promise_directory(place, path.clone(), hash)
                .or_else(|_| disks.promise(place, path, hash))?,
        };
        let progress = transfer.handle();
        if progress.size() != Some(bytes) || progress.transferred_bytes() != bytes {
            return Err(format!("{bytes} bytes are on the disk"));
        }
        if transfer.is_incoming() {
            self.summary.resumed_bytes += progress.resumed_from();
            self.check_resumed(actor, transfer)?;
        }
        Ok(())
    }

    /// Checks that the bytes of a part file were not sent again, or that all bytes were sent if the
    /// part file was not a prefix of the file.
    fn check_resumed(&mut self, actor: Actor, transfer: &FinishedTransfer) -> Result<(), String> {
        let agreed = &self.logs[&(actor.side, actor.id)].agreed;
        let mut same = agreed.iter().filter(|agreed| {
            agreed.name == transfer.name() && agreed.incoming && agreed.coming.is_some()
        });
        // Two transfers of the same name on one connection cannot be distinguished.
        let (Some(agreed), None) = (same.next(), same.next()) else { return Ok(()) };
        let Some(coming) = &agreed.coming else { return Ok(()) };
        let Coming { path, held, ever, crashes, freed_parts, changes, alone, size, .. } = coming;
        let others = self.receivers.get(&(actor.place, path.clone())).map(|them| them.ever);
        let is_same =
            self.disks.crashes(actor.place) == *crashes && self.disks.changes(path) == *changes;
        if !alone || others != Some(*ever) || !is_same {
            return Ok(());
        }
        let content = self.disks.disk(actor.place).read(path).unwrap_or_default();
        let from = transfer.handle().resumed_from();
        // Another offer may have made room with the part before it was opened.
        let may_be_removed = self.disks.freed_parts(actor.place) > *freed_parts;
        let right = if content.starts_with(held) {
            from >= held.len() as u64 || from == 0 && may_be_removed
        } else {
            from == 0 || from == *size
        };
        if right { Ok(()) } else { Err(format!("T21: resumed from {from}, {} held", held.len())) }
    }

    /// Checks a connection that is gone: all ends have been reported, and its part files do not
    /// change any more.
    pub(super) fn end_log(
        &mut self,
        actor: Actor,
        line: u64,
        why: &DisconnectReason,
    ) -> Result<(), String> {
        let own = matches!(actor.side, Side::Client(_)) || line != 0;
        if own && why.kind() == DisconnectKind::Protocol {
            return Err("a protocol error, and both sides follow the protocol".to_owned());
        }
        let mut log = std::mem::take(self.log(actor));
        log.end = Some((line, why.kind(), why.unsent_bytes()));
        log.was_not_reading = was_not_reading(why);
        let begun = log.begun.iter().filter(|begun| begun.told.is_none()).count();
        let agreed = log.agreed.iter().filter(|agreed| agreed.is_due()).count();
        if begun + agreed > 0 {
            let text = format!("{begun} of this side, {agreed} of the peer");
            return Err(format!("C6: the ends of transfers were not reported: {text}"));
        }
        if log.lists[0] != log.lists[1] {
            return Err(format!("C6: listings requested and reported: {:?}", log.lists));
        }
        for begun in log.begun.iter().filter(|begun| begun.progress.is_incoming()) {
            let path = self.disks.path_of(actor.place, begun.progress.name());
            self.receivers(actor.place, &path).now -= 1;
        }
        for coming in log.agreed.iter_mut().filter_map(|agreed| agreed.coming.as_mut()) {
            self.settle(actor.place, coming)?;
        }
        *self.log(actor) = log;
        Ok(())
    }

    /// Checks the file and the part file that a connection has left when it is gone, if nothing but
    /// this connection could change them. Notes the bytes that were left, unless the part may have
    /// been removed to make room.
    fn settle(&mut self, place: usize, coming: &mut Coming) -> Result<(), String> {
        let crashes = self.disks.crashes(place);
        let failures = self.disks.failures();
        let receivers = self.receivers(place, &coming.path);
        receivers.now -= 1;
        let alone = coming.alone && receivers.ever == coming.ever;
        let harmed = (crashes, failures) != (coming.crashes, coming.failures);
        if !alone || harmed || self.disks.is_tight || self.disks.has_hung(place) {
            return Ok(());
        }
        let part = self.disks.part(place, &coming.part);
        let whole = self.disks.disk(place).read(&coming.path);
        if coming.anew && whole.is_some() && part.is_some() {
            return Err(format!("{} exists, and its part file as well", coming.path));
        }
        // Only a crash or a failed disk may leave an empty part file.
        if crashes + failures == 0 && part.as_ref().is_some_and(Vec::is_empty) {
            return Err(format!("an empty part file of {} is left", coming.path));
        }
        let left = whole.or(part);
        // Another offer may have made room with the part as soon as its transfer had ended.
        let may_be_removed = self.disks.freed_parts(place) > coming.freed_parts;
        if left.is_some() || !may_be_removed {
            coming.left_bytes = Some(left.map_or(0, |bytes| bytes.len() as u64));
        }
        Ok(())
    }

    /// Checks that the receiver kept all sent bytes of a file, if the client ended the connection
    /// with nothing unsent and the server saw that end.
    pub(super) fn compare(&self, line: u64) -> Result<(), String> {
        let mut ends = [None, None];
        for ((side, _), log) in &self.logs {
            if log.end.is_some_and(|(other, ..)| line != 0 && other == line) {
                ends[usize::from(matches!(side, Side::Client(_)))] = Some(log);
            }
        }
        let [Some(server), Some(client)] = ends else { return Ok(()) };
        let clean = matches!(server.end, Some((_, DisconnectKind::Ended, _)))
            && matches!(client.end, Some((_, _, 0)));
        // An end that is told while the server does not read loses the bytes before it.
        if !clean || server.was_not_reading {
            return Ok(());
        }
        let cut = Some(Reported::Failed(TransferErrorKind::Disconnected));
        for begun in client.begun.iter().filter(|begun| begun.told == cut) {
            let progress = &begun.progress;
            let fits = |agreed: &&Agreed| agreed.incoming && agreed.name == progress.name();
            let mut agreed = server.agreed.iter().filter(fits);
            let (Some(agreed), None) = (agreed.next(), agreed.next()) else { continue };
            let Some(Coming { left_bytes: Some(left), .. }) = agreed.coming else { continue };
            if agreed.told == cut && left < progress.transferred_bytes() {
                let text = format!("{} of {}", progress.transferred_bytes(), progress.name());
                return Err(format!("line {line}: {text} were sent, and {left} were kept"));
            }
        }
        Ok(())
    }
}
