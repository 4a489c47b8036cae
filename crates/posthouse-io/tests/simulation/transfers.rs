//! Transfers onto a disk, under every fault and through crashes. As in the framework above the
//! port, a part is resumed after its correct beginning, synced, published, and removed.

use std::collections::BTreeMap;
use std::time::Duration;

use posthouse_io::sim::{FaultCounts, Faults, Network};
use posthouse_io::{Failure, File, FileOp, FileOutcome, Tag};

use crate::disk_fixture::{DiskFixture, Result};
use crate::fixture::gather;

const TRANSFERS: usize = 3;
const MAX_CRASHES: u32 = 5;
const CHUNK: usize = 100;

/// The next step of a transfer.
enum Step {
    Open,
    /// Reads the part back and compares it with the content.
    Compare(File, u64),
    Cut(File, u64),
    Write(File, u64),
    Publish(File),
    Remove(File),
    Done,
}

struct Transfer {
    name: String,
    path: String,
    content: Vec<u8>,
    step: Step,
    /// True exactly when the disk has confirmed the publication.
    is_published: bool,
}

impl Transfer {
    fn new(network: &Network, number: usize) -> Self {
        let bytes = 1 + network.random() as usize % 1000;
        let content = (0..bytes).map(|i| (1 + (i * 31 + number) % 255) as u8).collect();
        let name = format!("part-{number}");
        let path = format!("in/{}/{number}", number % 2);
        Self { name, path, content, step: Step::Open, is_published: false }
    }

    /// Returns the next operation of the transfer, or `None` if the transfer is done.
    fn op(&self, disk_fixture: &DiskFixture) -> Option<FileOp> {
        let directory = disk_fixture.directory.clone();
        let name = self.name.as_str().into();
        Some(match &self.step {
            Step::Open => FileOp::OpenPart { directory, name },
            Step::Compare(file, offset) => DiskFixture::read_op(file, *offset, CHUNK),
            Step::Cut(file, bytes) => FileOp::Truncate { file: file.clone(), bytes: *bytes },
            Step::Write(file, offset) => {
                let rest = &self.content[*offset as usize..];
                let data = gather(&rest[..rest.len().min(CHUNK)]);
                FileOp::Write { file: file.clone(), offset: *offset, data }
            }
            Step::Publish(file) => disk_fixture.publish_op(&self.name, file, &self.path),
            Step::Remove(file) => FileOp::RemovePart { directory, name, file: file.clone() },
            Step::Done => return None,
        })
    }

    fn write_from(&self, file: File, offset: u64) -> Step {
        match offset == self.content.len() as u64 {
            true => Step::Publish(file),
            false => Step::Write(file, offset),
        }
    }

    fn go_on(&mut self, result: Result<FileOutcome>) {
        let step = std::mem::replace(&mut self.step, Step::Open);
        self.step = match (step, result) {
            (Step::Open, Ok(FileOutcome::Part { file, .. })) => Step::Compare(file, 0),
            (Step::Compare(file, offset), Ok(FileOutcome::Read { memory })) => {
                let rest = self.content[offset as usize..].iter();
                let right = rest.zip(&memory).take_while(|(one, other)| one == other).count();
                let offset = offset + right as u64;
                match memory.is_empty() || right < memory.len() {
                    true => Step::Cut(file, offset),
                    false => Step::Compare(file, offset),
                }
            }
            (Step::Cut(file, bytes), Ok(_)) => self.write_from(file, bytes),
            (Step::Write(file, offset), Ok(FileOutcome::Written { bytes, .. })) => {
                self.write_from(file, offset + bytes as u64)
            }
            (Step::Publish(file), Ok(_)) => {
                self.is_published = true;
                Step::Remove(file)
            }
            // The first attempt had published the file before the failure or the crash.
            (Step::Publish(file), Err(Failure::Exists)) => Step::Remove(file),
            (Step::Remove(_), Ok(_)) => Step::Done,
            (_, Ok(outcome)) => panic!("{outcome:?}"),
            (_, Err(Failure::Disk | Failure::NoSpace)) => Step::Open,
            (_, Err(failure)) => panic!("{}: {failure:?}", self.name),
        };
    }
}

/// Checks that each file on the disk is whole, and that each confirmed publication is there.
fn check(seed: u64, disk_fixture: &DiskFixture, transfers: &[Transfer]) {
    for path in disk_fixture.disk.files() {
        let transfer = transfers
            .iter()
            .find(|transfer| transfer.path == path)
            .expect("the file belongs to a transfer");
        let content = disk_fixture.disk.read(&path);
        assert_eq!(content.as_ref(), Some(&transfer.content), "seed {seed}: {path} is not whole");
    }
    for transfer in transfers.iter().filter(|transfer| transfer.is_published) {
        assert!(
            disk_fixture.disk.read(&transfer.path).is_some(),
            "seed {seed}: {} lost",
            transfer.path
        );
    }
}

fn crash(seed: u64, disk_fixture: DiskFixture, transfers: &mut [Transfer]) -> DiskFixture {
    disk_fixture.disk.crash();
    check(seed, &disk_fixture, transfers);
    let before = (disk_fixture.disk.files(), disk_fixture.disk.parts());
    for transfer in transfers.iter_mut() {
        transfer.step = Step::Open;
    }
    let disk_fixture = disk_fixture.again();
    assert_eq!(
        (disk_fixture.disk.files(), disk_fixture.disk.parts()),
        before,
        "seed {seed}: dead hands"
    );
    disk_fixture
}

/// Transfers all files to the disk. Returns the fingerprint and the counts of faults.
fn run(seed: u64) -> (u64, FaultCounts) {
    let mut faults = Faults::from_seed(seed);
    faults.clock_jump_ppm = 0;
    let network = Network::with(seed, faults.clone());
    let mut disk_fixture = DiskFixture::on(&network);
    let mut transfers = [0, 1, 2].map(|number| Transfer::new(&network, number));
    assert_eq!(transfers.len(), TRANSFERS);
    let mut in_flight = BTreeMap::<Tag, usize>::new();
    let mut crashes = 0;
    loop {
        for (i, transfer) in transfers.iter().enumerate() {
            if !in_flight.values().any(|other| *other == i)
                && let Some(op) = transfer.op(&disk_fixture)
            {
                in_flight.insert(disk_fixture.submit(op), i);
            }
        }
        if in_flight.is_empty() {
            break;
        }
        if crashes < MAX_CRASHES && network.random().is_multiple_of(30) {
            crashes += 1;
            let time = Duration::from_micros(network.random() % 2000);
            network.run_until(Some(time), || None::<()>);
            in_flight.clear();
            disk_fixture = crash(seed, disk_fixture, &mut transfers);
            continue;
        }
        let (tag, result) = disk_fixture.next().expect("the operations in flight complete");
        let transfer = in_flight.remove(&tag).expect("the operation is in flight");
        transfers[transfer].go_on(result);
        check(seed, &disk_fixture, &transfers);
    }
    assert_eq!(disk_fixture.disk.files().len(), TRANSFERS, "seed {seed}");
    assert_eq!(disk_fixture.disk.parts(), [], "seed {seed}");
    disk_fixture.fixture.end_clean();
    (network.fingerprint(), network.fault_counts())
}

#[test]
fn files_come_onto_the_disk_whole_or_not_at_all() {
    let mut seen = [0; 5];
    for seed in 0..2000 {
        let tally = run(seed).1;
        let of = [
            tally.read_short,
            tally.write_short,
            tally.disk_full,
            tally.disk_fails,
            tally.disk_lost,
        ];
        seen.iter_mut().zip(of).for_each(|(seen, of)| *seen += u64::from(of > 0));
    }
    assert!(seen.iter().all(|count| *count > 200), "seeds with each: {seen:?}");
}

#[test]
fn a_seed_decides_about_disks_and_crashes() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let one = run(seed);
        let two = run(seed);
        assert_eq!(one, two, "seed {seed}");
        assert!(seen.insert(one.0), "seed {seed}: two runs differ");
    }
}
