//! File operations in simulation: their checks, their duration, and their faults.

use super::volume::Publication;
use super::{FileId, FileUse, SimDirectory, SimFile};
use crate::error::{Error, Failure};
use crate::file_op::{FileOp, FileOutcome, is_beneath};
use crate::gather::{FileFault, Gather};
use crate::handle::{Directory, File};
use crate::op::Outcome;
use crate::sim::completions::{OpKind, Queued};
use crate::sim::log::Note;
use crate::sim::stream::InFlight;
use crate::sim::world::{Event, World};
use crate::sim::{LaneAddr, Nanos};
use crate::token::{Socket, Tag};

/// A file operation in flight.
#[derive(Debug)]
pub(crate) struct PendingFileOp {
    info: OpInfo,
    op: Box<FileOp>,
    effect: Effect,
}

/// The origin and the target of an operation.
#[derive(Debug)]
struct OpInfo {
    at: LaneAddr,
    in_flight: InFlight,
    disk: usize,
    file: Option<(FileId, FileUse)>,
    /// The number of changes of the file before the operation was submitted.
    changes: u64,
    /// The number of the operation's kind in the log.
    kind: u64,
}

/// The next effect of an operation.
#[derive(Debug)]
enum Effect {
    /// The publication links its final name, and ends at this time.
    Link(Nanos),
    /// The operation ends.
    End,
}

impl PendingFileOp {
    pub(crate) fn tag(&self) -> Tag {
        self.info.in_flight.tag
    }
}

/// Returns the directory and the file that an operation uses.
fn targets(op: &FileOp) -> (Option<&Directory>, Option<&File>) {
    match op {
        FileOp::Open { directory, .. }
        | FileOp::OpenPart { directory, .. }
        | FileOp::ExpireParts { directory, .. }
        | FileOp::FreeParts { directory, .. }
        | FileOp::Usage { directory }
        | FileOp::LookUpDirectory { directory, .. }
        | FileOp::MakeDirectory { directory, .. }
        | FileOp::List { directory, .. } => (Some(directory), None),
        FileOp::Truncate { file, .. }
        | FileOp::Read { file, .. }
        | FileOp::Write { file, .. }
        | FileOp::Sync { file }
        | FileOp::Metadata { file } => (None, Some(file)),
        FileOp::Publish { directory, file, .. }
        | FileOp::SyncName { directory, file, .. }
        | FileOp::RemovePart { directory, file, .. } => (Some(directory), Some(file)),
    }
}

fn kind(op: &FileOp) -> u64 {
    match op {
        FileOp::Open { .. } => 0,
        FileOp::OpenPart { .. } => 1,
        FileOp::Truncate { .. } => 2,
        FileOp::Read { .. } => 3,
        FileOp::Write { .. } => 4,
        FileOp::Sync { .. } => 5,
        FileOp::Metadata { .. } => 6,
        FileOp::Publish { .. } => 7,
        FileOp::RemovePart { .. } => 8,
        FileOp::ExpireParts { .. } => 9,
        FileOp::List { .. } => 10,
        FileOp::Usage { .. } => 11,
        FileOp::SyncName { .. } => 12,
        FileOp::LookUpDirectory { .. } => 13,
        FileOp::MakeDirectory { .. } => 14,
        FileOp::FreeParts { .. } => 15,
    }
}

/// Returns the number that the log has for a result.
fn log_value(result: &Result<FileOutcome, Failure>) -> u64 {
    match result {
        Ok(FileOutcome::Opened { metadata, .. } | FileOutcome::Metadata { metadata, .. }) => {
            metadata.bytes
        }
        Ok(FileOutcome::Part { bytes, .. }) => *bytes,
        Ok(FileOutcome::Read { memory }) => memory.len() as u64,
        Ok(FileOutcome::Written { bytes, .. }) => *bytes as u64,
        Ok(FileOutcome::Listed { entries, .. }) => entries.len() as u64,
        Ok(FileOutcome::Usage(usage)) => usage.bytes,
        Ok(FileOutcome::Done) => 0,
        Err(failure) => FAILED | *failure as u64,
    }
}

const FAILED: u64 = 1 << 63;
const LINKED: u64 = 1 << 62;

fn file_use(op: &FileOp) -> FileUse {
    match op {
        FileOp::Write { .. } | FileOp::Truncate { .. } => FileUse::Changes,
        FileOp::Sync { .. } => FileUse::Syncs,
        _ => FileUse::Reads,
    }
}

fn is_name(name: &str) -> bool {
    is_beneath(name) && !name.contains('/')
}

/// Returns the reason why an operation is invalid, if there is one.
fn invalid_reason(op: &FileOp) -> Option<String> {
    let path = |path: &str| {
        (!is_beneath(path)).then(|| format!("{path:?} does not lead beneath a directory"))
    };
    let name = |name: &str| (!is_name(name)).then(|| format!("{name:?} is not the name of a part"));
    match op {
        FileOp::Open { path: of, .. }
        | FileOp::SyncName { path: of, .. }
        | FileOp::LookUpDirectory { path: of, .. }
        | FileOp::MakeDirectory { path: of, .. } => path(of),
        FileOp::OpenPart { name: of, .. } | FileOp::RemovePart { name: of, .. } => name(of),
        FileOp::Publish { part, path: of, .. } => name(part).or_else(|| path(of)),
        FileOp::Read { bytes: 0, .. } => Some("a read of nothing".to_owned()),
        FileOp::Write { data, .. } if data.is_empty() => Some("a write of nothing".to_owned()),
        FileOp::List { max_entries: 0, .. } => Some("a list of nothing".to_owned()),
        _ => None,
    }
}

/// Returns the file of an operation that has been checked to belong to this world.
fn own(file: &File) -> &SimFile {
    file.simulated().expect("it was looked at when it was submitted")
}

impl World {
    /// Returns the virtual time in the unit of file times.
    pub(super) fn now_ns(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX)
    }

    // ---- submitting ----

    pub(crate) fn file(&mut self, at: LaneAddr, in_flight: InFlight, op: Box<FileOp>) {
        let tag = in_flight.tag;
        if let Some(invalid_reason) = invalid_reason(&op) {
            self.bug(&format!("{tag:?}: {invalid_reason}"));
        }
        let (directory, file) = targets(&op);
        let directory = directory.map(|directory| self.own_directory(tag, directory).disk);
        let file = file.map(|file| self.own_file(tag, file));
        if let Some(file) = file {
            self.check_file(tag, file, &op);
        }
        let file = file.map(|file| file.id);
        let disk = directory.or(file.map(|file| file.disk)).expect("it goes through something");
        if file.is_some_and(|file| file.disk != disk) {
            self.bug(&format!("{tag:?}: a file and a directory of different disks"));
        }
        let file = file.map(|file| (file, file_use(&op)));
        if let Some((file, how)) = file
            && !self.disks[disk].begin(file, how)
        {
            self.bug(&format!("{tag:?}: a second operation in flight on a file that changes"));
        }
        let changes = file.map_or(0, |(file, _)| self.disks[disk].changes_made(file));
        let info = OpInfo { at, in_flight, disk, file, changes, kind: kind(&op) };
        self.start_work(PendingFileOp { info, op, effect: Effect::End });
    }

    /// Checks that a directory belongs to a disk of this world.
    fn own_directory<'a>(&mut self, tag: Tag, directory: &'a Directory) -> &'a SimDirectory {
        let Some(directory) = directory.simulated() else {
            self.bug(&format!("{tag:?}: a directory of a real system is used in simulation"));
        };
        if !self.disks.get(directory.disk).is_some_and(|disk| disk.is_of(&directory.world)) {
            self.bug(&format!("{tag:?}: a directory of another network is used"));
        }
        directory
    }

    /// Checks that a file belongs to a disk of this world, as far as a dead file shows it.
    fn own_file<'a>(&mut self, tag: Tag, file: &'a File) -> &'a SimFile {
        let Some(file) = file.simulated() else {
            self.bug(&format!("{tag:?}: a file of a real system is used in simulation"));
        };
        if self.disks.get(file.id.disk).is_none_or(|disk| disk.is_foreign(file)) {
            self.bug(&format!("{tag:?}: a file of another network is used"));
        }
        file
    }

    fn check_file(&mut self, tag: Tag, file: &SimFile, op: &FileOp) {
        let is_for_parts = matches!(op, FileOp::Publish { .. } | FileOp::RemovePart { .. });
        let is_changing = file_use(op) == FileUse::Changes;
        if (is_changing || is_for_parts) && !file.is_part {
            self.bug(&format!("{tag:?}: a file opened for reading is treated as a part"));
        }
        if is_changing && self.disks[file.id.disk].is_published(file) {
            self.bug(&format!("{tag:?}: a part that has its final name is changed"));
        }
    }

    /// Performs an operation at once, or schedules its effects.
    fn start_work(&mut self, mut work: PendingFileOp) {
        let publishes = matches!(*work.op, FileOp::Publish { .. });
        if self.at_once() && self.disks[work.info.disk].hung.is_none() {
            return match if publishes { self.link_work(&work) } else { Ok(()) } {
                Ok(()) => self.finish_work(work, true),
                Err(failure) => self.land_work(work.info, Err(failure), true),
            };
        }
        self.fault_counts.delayed += 1;
        let takes = self.random.time(&self.faults.disk_delay);
        let end = self.now + takes;
        let mut when = end;
        if publishes {
            work.effect = Effect::Link(end);
            when = self.now + self.random.below(takes as usize + 1) as Nanos;
        }
        self.schedule(when, Event::File(Box::new(work)));
    }

    /// Returns the time at which a part of a file has been read for a send.
    pub(crate) fn when_read(&mut self) -> Nanos {
        self.fault_counts.delayed += 1;
        self.now + self.random.time(&self.faults.disk_delay)
    }

    /// Checks the file that comes next in a send.
    pub(crate) fn check_sent_file(&mut self, tag: Tag, gather: &Gather) {
        let Some((file, ..)) = gather.file_ahead() else { return };
        if self.own_file(tag, file).is_part {
            self.bug(&format!("{tag:?}: a part is sent"));
        }
    }

    /// Continues the operations that a disk received while it hung.
    pub(super) fn resume_disk(&mut self, disk: usize) {
        for work in self.disks[disk].hung.take().unwrap_or_default() {
            let when = self.now + self.random.time(&self.faults.disk_delay);
            self.schedule(when, Event::File(Box::new(work)));
        }
        for from in std::mem::take(&mut self.disks[disk].hung_sends) {
            let when = self.when_read();
            self.push_later(from, when);
        }
    }

    // ---- taking effect ----

    /// Performs the next effect of an operation.
    pub(crate) fn work(&mut self, mut work: PendingFileOp) {
        if let Some(held) = &mut self.disks[work.info.disk].hung {
            return held.push(work);
        }
        let Effect::Link(end) = work.effect else { return self.finish_work(work, false) };
        match self.link_work(&work) {
            Ok(()) => {
                work.effect = Effect::End;
                self.schedule(end, Event::File(Box::new(work)));
            }
            Err(failure) => self.land_work(work.info, Err(failure), false),
        }
    }

    /// Performs the first half of a publication.
    fn link_work(&mut self, work: &PendingFileOp) -> Result<(), Failure> {
        let OpInfo { disk, kind, .. } = work.info;
        self.fate(disk, &work.op)?;
        let FileOp::Publish { file, path, modified_ns, executable, .. } = &*work.op else {
            unreachable!("only a publication links");
        };
        let modified_ns = modified_ns.unwrap_or(self.now_ns());
        let publication = Publication { path, modified_ns, executable: *executable };
        self.disks[disk].link(own(file), &publication)?;
        self.note(Note::File, kind, LINKED);
        Ok(())
    }

    fn finish_work(&mut self, work: PendingFileOp, at_once: bool) {
        let PendingFileOp { info, op, .. } = work;
        let fate = self.fate(info.disk, &op);
        let result = fate.and_then(|()| self.perform(info.disk, info.changes, *op));
        self.land_work(info, result, at_once);
    }

    fn land_work(&mut self, info: OpInfo, result: Result<FileOutcome, Failure>, at_once: bool) {
        let OpInfo { at, in_flight, file, kind, .. } = info;
        self.note(Note::File, kind, log_value(&result));
        let outcome = match result {
            Ok(outcome) => Outcome::File(Box::new(outcome)),
            Err(failure) => Outcome::Failed(Error::new(failure)),
        };
        let queued = Queued::new(None, in_flight.into_tag(), OpKind::File, false, outcome);
        self.complete(at, Queued { file, ..queued }, at_once);
    }

    /// Handles the taking of the completion of an operation on an open file.
    pub(crate) fn file_landed(&mut self, (file, how): (FileId, FileUse)) {
        self.disks[file.disk].end(file, how);
    }

    /// Draws the failure of an operation, if it fails independently of its effect.
    fn fate(&mut self, disk: usize, op: &FileOp) -> Result<(), Failure> {
        let (directory, file) = targets(op);
        let disk = &self.disks[disk];
        let before_crash = directory
            .and_then(Directory::simulated)
            .is_some_and(|directory| directory.epoch != disk.epoch);
        if before_crash || file.is_some_and(|file| disk.is_dead(own(file))) {
            return Err(Failure::Disk);
        }
        if self.random.chance(self.faults.disk_fails_ppm) {
            self.fault_counts.disk_fails += 1;
            return Err(Failure::Disk);
        }
        let takes_room = matches!(
            op,
            FileOp::Write { .. }
                | FileOp::OpenPart { .. }
                | FileOp::MakeDirectory { .. }
                | FileOp::Publish { .. }
        );
        if takes_room && self.random.chance(self.faults.disk_full_ppm) {
            self.fault_counts.disk_full += 1;
            return Err(Failure::NoSpace);
        }
        Ok(())
    }

    fn perform(&mut self, number: usize, changes: u64, op: FileOp) -> Result<FileOutcome, Failure> {
        let now_ns = self.now_ns();
        let disk = &mut self.disks[number];
        match op {
            FileOp::Open { path, .. } => disk.open(&path),
            FileOp::OpenPart { name, .. } => disk.open_part(&name, now_ns),
            FileOp::Truncate { file, bytes } => disk.truncate(own(&file), bytes, now_ns),
            FileOp::Read { file, offset, bytes, memory } => {
                self.read_file(number, own(&file), offset, bytes, memory)
            }
            FileOp::Write { file, offset, data } => {
                self.write_file(number, own(&file), offset, data)
            }
            FileOp::Sync { file } => disk.sync(own(&file), changes),
            FileOp::Metadata { file } => disk.metadata(own(&file)),
            FileOp::Publish { path, .. } => Ok(disk.sync_name(&path)),
            FileOp::SyncName { path, file, .. } => disk.sync_found(&path, own(&file)),
            FileOp::LookUpDirectory { path, .. } => disk.look_up_directory(&path),
            FileOp::MakeDirectory { path, .. } => disk.make_directory(&path),
            FileOp::RemovePart { name, file, .. } => disk.remove_part(&name, own(&file)),
            FileOp::ExpireParts { age_ms, .. } => Ok(disk.expire_parts(age_ms, now_ns)),
            FileOp::FreeParts { bytes, files, .. } => disk.free_parts(bytes, files),
            FileOp::Usage { .. } => Ok(FileOutcome::Usage(disk.usage())),
            FileOp::List { after, max_entries, max_bytes, is_listed, .. } => {
                Ok(disk.list(&after, (max_entries, max_bytes), is_listed))
            }
        }
    }

    fn read_file(
        &mut self,
        disk: usize,
        file: &SimFile,
        offset: u64,
        bytes: usize,
        mut memory: Vec<u8>,
    ) -> Result<FileOutcome, Failure> {
        let there = self.disks[disk].read(file, offset)?;
        let most = there.len().min(bytes);
        let mut count = most;
        if most > 0 && self.random.chance(self.faults.read_short_ppm) {
            count = self.random.part(most);
            self.fault_counts.read_short += u64::from(count < most);
        }
        memory.clear();
        memory.extend_from_slice(&there[..count]);
        self.log.bytes(self.now, &memory);
        Ok(FileOutcome::Read { memory })
    }

    /// Returns whether a send waits for a hung disk. The send is continued when the disk resumes.
    pub(crate) fn hangs(&mut self, from: Socket, gather: &Gather) -> bool {
        let Some((file, ..)) = gather.file_ahead() else { return false };
        let disk = &mut self.disks[own(file).id.disk];
        let hangs = disk.hung.is_some();
        if hangs {
            disk.hung_sends.push(from);
        }
        hangs
    }

    /// Reads at most `max_bytes` of the part of a file that comes next in a send.
    pub(crate) fn load(&mut self, gather: &mut Gather, max_bytes: usize) {
        let Some((file, offset, bytes)) = gather.file_ahead() else { return };
        let file = own(file).clone();
        let bytes = bytes.min(max_bytes);
        let disk = file.id.disk;
        let read = if self.disks[disk].is_dead(&file) {
            Err(Failure::Disk)
        } else if self.random.chance(self.faults.sendfile_fails_ppm) {
            self.fault_counts.sendfile_fails += 1;
            Err(Failure::Disk)
        } else {
            self.read_file(disk, &file, offset, bytes, Vec::new())
        };
        match read {
            Ok(FileOutcome::Read { memory }) if memory.is_empty() => {
                gather.pad_file(FileFault::Short);
            }
            Ok(FileOutcome::Read { memory }) => gather.load(memory),
            Ok(other) => unreachable!("a read gave {other:?}"),
            Err(failure) => gather.pad_file(FileFault::Failed(Error::new(failure))),
        }
    }

    fn write_file(
        &mut self,
        disk: usize,
        file: &SimFile,
        offset: u64,
        data: Gather,
    ) -> Result<FileOutcome, Failure> {
        let most = self.disks[disk].writable(file, offset, data.len())?;
        let mut count = most;
        if self.random.chance(self.faults.write_short_ppm) {
            count = self.random.part(most);
            self.fault_counts.write_short += u64::from(count < most);
        }
        let bytes: Vec<u8> = data.slices().flatten().copied().take(count).collect();
        self.log.bytes(self.now, &bytes);
        let now_ns = self.now_ns();
        self.disks[disk].write(file, offset, bytes, now_ns)?;
        Ok(FileOutcome::Written { bytes: count, data })
    }
}
