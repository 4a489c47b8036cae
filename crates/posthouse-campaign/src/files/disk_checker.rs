//! The disk checker: the files that may be on the disks, and those that must be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{SERVER_PLACE, fixtures};
use crate::traffic::Rng;
use posthouse::sim::{Disk, World};

/// The prefix of the names of files that clients have received.
const RECEIVED: &str = "got/";
/// The least time between two changes of a file. Two changes within one tick of the file's time
/// could not be distinguished.
const CHANGED_APART: Duration = Duration::from_millis(2);

/// The disks of a run, and the contents that they may and must have.
#[derive(Debug)]
pub(super) struct DiskChecker {
    world: World,
    /// The disk of the server, then those of the clients.
    disks: Vec<Disk>,
    /// The prefix of the names of files that the server has received.
    kept: &'static str,
    /// All contents that a file of a name ever had, on any disk.
    versions: BTreeMap<String, BTreeSet<Vec<u8>>>,
    /// The files that must be on a disk, because a side was notified of their completion.
    promised: BTreeMap<(usize, String), Vec<u8>>,
    /// The directories that were reported as made.
    promised_directories: BTreeSet<(usize, String)>,
    /// The files whose content was checked and has not been able to change since, and their sizes.
    seen: BTreeMap<(usize, String), u64>,
    /// The maximum bytes and files of the server's directory.
    quota: Option<(u64, u64)>,
    crashes: Vec<u64>,
    /// For each disk, whether it has ever hung. Operations of an endpoint that has ended may then
    /// take effect late.
    hung: Vec<bool>,
    /// The number of changes of each file's content.
    changes: BTreeMap<String, u64>,
    /// The names of files that were rewritten while an endpoint could know their hash.
    unseen: BTreeSet<String>,
    /// The time of the last change of a file.
    changed: Duration,
    /// True exactly while the server's disk may have no room for a received file.
    pub(super) is_tight: bool,
}

pub(super) use posthouse_wire::file_hash as hash;

fn is_beneath(directory: &str, path: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

impl DiskChecker {
    pub(super) fn new(world: World, disks: Vec<Disk>, kept: &'static str) -> Self {
        Self {
            world,
            kept,
            versions: BTreeMap::new(),
            promised: BTreeMap::new(),
            promised_directories: BTreeSet::new(),
            seen: BTreeMap::new(),
            quota: None,
            crashes: vec![0; disks.len()],
            hung: vec![false; disks.len()],
            changes: BTreeMap::new(),
            unseen: BTreeSet::new(),
            changed: Duration::ZERO,
            is_tight: false,
            disks,
        }
    }

    pub(super) fn disk(&self, place: usize) -> &Disk {
        &self.disks[place]
    }

    pub(super) fn set_quota(&mut self, quota: Option<(u64, u64)>) {
        self.quota = quota;
    }

    /// Returns whether the server's quota has no room for one more file of this size.
    pub(super) fn is_full_for(&self, bytes: u64) -> bool {
        let Some((bytes_max, files_max)) = self.quota else { return false };
        let disk = &self.disks[SERVER_PLACE];
        let files = disk.files();
        let parts = disk.parts();
        let whole: usize = files.iter().filter_map(|it| disk.read(it)).map(|it| it.len()).sum();
        let begun: usize = parts.iter().map(|(_, bytes)| bytes.len()).sum();
        let count = (files.len() + parts.len()) as u64;
        (whole + begun) as u64 + bytes > bytes_max || count >= files_max
    }

    /// Returns the number of operations on all disks that failed or were abandoned.
    pub(super) fn failures(&self) -> u64 {
        let counts = self.world.fault_counts();
        counts.disk_full + counts.disk_fails + counts.sendfile_fails + counts.abandoned
    }

    /// Returns the number of crashes of a disk.
    pub(super) fn crashes(&self, place: usize) -> u64 {
        self.crashes[place]
    }

    /// Crashes a disk.
    pub(super) fn crash(&mut self, place: usize) {
        self.disks[place].crash();
        self.crashes[place] += 1;
        self.seen.retain(|(on, _), _| *on != place);
    }

    /// Makes a disk hang until it is resumed.
    pub(super) fn hang(&mut self, place: usize) {
        self.disks[place].hang();
        self.hung[place] = true;
    }

    /// Returns whether operations of an ended endpoint may still take effect on a disk.
    pub(super) fn has_hung(&self, place: usize) -> bool {
        self.hung[place]
    }

    /// Returns the path at which a side keeps the file of this name in the protocol.
    pub(super) fn path_of(&self, place: usize, name: &str) -> String {
        let before = if place == SERVER_PLACE { self.kept } else { RECEIVED };
        format!("{before}{name}")
    }

    /// Returns the name of a file without the prefixes of received files.
    fn first_name<'a>(&self, path: &'a str) -> &'a str {
        let name = path.strip_prefix(RECEIVED).unwrap_or(path);
        name.strip_prefix(self.kept).unwrap_or(name)
    }

    /// Adds a content that a file of this name may have.
    pub(super) fn add_version(&mut self, path: &str, content: Vec<u8>) {
        let name = self.first_name(path).to_owned();
        self.versions.entry(name).or_default().insert(content);
    }

    /// Returns the files that a client had from the beginning.
    pub(super) fn sources(&self, place: usize) -> Vec<String> {
        let mut files = self.disks[place].files();
        files.retain(|path| fixtures::NAMES.contains(&&**path));
        files
    }

    /// Returns the files of a place that no peer sends to it and that no endpoint has open.
    pub(super) fn unread(&self, place: usize) -> Vec<String> {
        let names: &[&str] =
            if place == SERVER_PLACE { &fixtures::POPULAR } else { &fixtures::NAMES };
        let mut files = self.disks[place].files();
        files.retain(|path| {
            let name = if place == SERVER_PLACE { self.first_name(path) } else { path };
            names.contains(&name) && !self.disks[place].is_open(path)
        });
        files
    }

    /// Overwrites, extends or truncates a file, even if an endpoint is reading it.
    pub(super) fn change(&mut self, place: usize, path: &str, rng: &mut Rng) {
        let now = self.world.now();
        if now < self.changed + CHANGED_APART {
            return;
        }
        self.changed = now;
        let disk = &self.disks[place];
        match rng.below(3) {
            0 => disk.write(path, &fixtures::some_content(rng)),
            1 => disk.append(path, &fixtures::content(rng.below(9), rng.below(9_000) as usize)),
            _ => {
                let bytes = disk.read(path).map_or(0, |content| content.len());
                disk.truncate(path, rng.below(bytes as u64 + 1));
            }
        }
        self.note_change(place, path);
    }

    /// Puts other content of the same size and time into a file that no endpoint has open. Only the
    /// bytes show that the file is another.
    pub(super) fn rewrite(&mut self, place: usize, path: &str, rng: &mut Rng) {
        let disk = &self.disks[place];
        let bytes = disk.read(path).map_or(0, |content| content.len());
        let content = fixtures::content(rng.below(9), bytes);
        disk.rewrite(path, &content);
        self.note_change(place, path);
    }

    /// Rewrites a file whose old hash an endpoint may know.
    pub(super) fn rewrite_unseen(&mut self, place: usize, path: &str, rng: &mut Rng) {
        self.rewrite(place, path, rng);
        let name = self.first_name(path).to_owned();
        self.unseen.insert(name);
    }

    /// Returns whether a transfer of the file may fail because its known hash is wrong.
    pub(super) fn may_be_known_wrong(&self, path: &str) -> bool {
        self.unseen.contains(self.first_name(path))
    }

    fn note_change(&mut self, place: usize, path: &str) {
        let content = self.disks[place].read(path).unwrap_or_default();
        self.add_version(path, content);
        self.seen.remove(&(place, path.to_owned()));
        let name = self.first_name(path).to_owned();
        *self.changes.entry(name).or_default() += 1;
    }

    /// Returns the number of parts on a disk that were removed to make room for other files.
    pub(super) fn freed_parts(&self, place: usize) -> u64 {
        self.disks[place].freed_parts()
    }

    /// Returns the number of changes of a file's content so far, on any disk.
    pub(super) fn changes(&self, path: &str) -> u64 {
        self.changes.get(self.first_name(path)).copied().unwrap_or(0)
    }

    fn is_version(&self, path: &str, content: &[u8]) -> bool {
        let versions = self.versions.get(self.first_name(path));
        versions.is_some_and(|versions| versions.contains(content))
    }

    /// Returns whether a file of this name ever had this size.
    pub(super) fn was_ever(&self, path: &str, bytes: u64) -> bool {
        let mut versions = self.versions.get(self.first_name(path)).into_iter().flatten();
        versions.any(|content| content.len() as u64 == bytes)
    }

    /// Returns whether a path may be a directory, or beneath a file, because of the names of other
    /// files. A directory also stays if a crash or a failure removed the file in it.
    pub(super) fn may_be_a_directory(&self, path: &str) -> bool {
        let name = self.first_name(path);
        self.versions.keys().any(|other| is_beneath(name, other) || is_beneath(other, name))
    }

    /// Returns whether a path cannot exist, because another file is at its directory or beneath it.
    pub(super) fn is_in_the_way(&self, place: usize, path: &str) -> bool {
        let files = self.disks[place].files();
        files.iter().any(|other| is_beneath(path, other) || is_beneath(other, path))
    }

    /// Returns the promised files of a disk whose names come after this name, in order.
    pub(super) fn promised_after(&self, place: usize, after: &str) -> Vec<String> {
        let of_disk = self.promised.keys().filter(|(on, path)| *on == place && &**path > after);
        of_disk.map(|(_, path)| path.clone()).collect()
    }

    /// Checks that a directory that was reported as made is on the disk. From then on it must stay
    /// there. Returns its size, 0.
    pub(super) fn promise_directory(
        &mut self,
        place: usize,
        path: String,
        told: &[u8; 32],
    ) -> Result<u64, String> {
        if *told != hash(b"") || !self.disks[place].has_directory(&path) {
            return Err(format!(
                "{path} was reported as made, and is no directory of disk {place}"
            ));
        }
        self.promised_directories.insert((place, path));
        Ok(0)
    }

    /// Checks that a file that was reported as complete is on the disk with this hash. From then on
    /// it must stay there. Returns its size.
    pub(super) fn promise(
        &mut self,
        place: usize,
        path: String,
        told: &[u8; 32],
    ) -> Result<u64, String> {
        let Some(content) = self.disks[place].read(&path) else {
            return Err(format!("{path} was reported as complete, and is not on disk {place}"));
        };
        if hash(&content) != *told {
            return Err(format!("{path} on disk {place} has another hash than was reported"));
        }
        let bytes = content.len() as u64;
        self.promised.insert((place, path), content);
        Ok(bytes)
    }

    /// Checks every file of every disk.
    pub(super) fn check(&mut self) -> Result<(), String> {
        for place in 0..self.disks.len() {
            let mut bytes = 0;
            let mut files = 0;
            let there = self.disks[place].files();
            for path in &there {
                bytes += self.check_file(place, path)?;
                files += 1;
            }
            for (_, path) in self.promised_directories.iter().filter(|(on, _)| *on == place) {
                if !self.disks[place].has_directory(path) {
                    let text = "was reported as made, and is gone";
                    return Err(format!("{path} on disk {place} {text}"));
                }
            }
            for (_, path) in self.promised.keys().filter(|(on, _)| *on == place) {
                if there.binary_search(path).is_err() {
                    let text = "was reported as complete, and is gone";
                    return Err(format!("{path} on disk {place} {text}"));
                }
            }
            // A crash can bring back removed parts. An operation of an ended endpoint may still
            // write to a part of a disk that has hung. An offer that does not fit has an empty
            // part.
            let has_own_parts = !self.hung[place] && self.crashes[place] == 0;
            if place == SERVER_PLACE && self.quota.is_some() && has_own_parts {
                let usage = (*self.disks[place]).directory().usage();
                let usage = usage.map_err(|error| format!("a simulated disk: {error}"))?;
                let parts = self.disks[place].parts();
                let empty = parts.iter().filter(|(_, bytes)| bytes.is_empty()).count();
                bytes = bytes.max(usage.bytes);
                files = files.max(usage.files.saturating_sub(empty as u64));
            }
            let over = |(bytes_max, files_max)| bytes > bytes_max || files > files_max;
            if place == SERVER_PLACE && self.quota.is_some_and(over) {
                let text = format!("{bytes} bytes in {files} files, of {:?}", self.quota);
                return Err(format!("T20: the quota is exceeded: {text}"));
            }
        }
        Ok(())
    }

    /// Checks one file if it is new or could have changed. Returns its bytes.
    fn check_file(&mut self, place: usize, path: &str) -> Result<u64, String> {
        let key = (place, path.to_owned());
        if let Some(bytes) = self.seen.get(&key) {
            return Ok(*bytes);
        }
        let content = self.disks[place].read(path).expect("a file that is listed");
        let bytes = content.len() as u64;
        let promised = self.promised.get(&key);
        if promised.is_some_and(|promised| *promised != content) {
            return Err(format!("{path} on disk {place} has changed since it was reported"));
        }
        if promised.is_none() && !self.is_version(path, &content) {
            let text = "has a content that no file of that name ever had";
            return Err(format!("{path} on disk {place}, {bytes} bytes, {text}"));
        }
        self.seen.insert(key, bytes);
        Ok(bytes)
    }

    /// Returns the content of a part file, if it exists.
    pub(super) fn part(&self, place: usize, name: &str) -> Option<Vec<u8>> {
        let parts = self.disks[place].parts();
        let part = parts.into_iter().find(|(other, _)| other == name);
        part.map(|(_, bytes)| bytes)
    }
}
