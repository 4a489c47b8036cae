//! Files that are sent in simulation: their bytes, or zeros and the fault that explains them.

use posthouse_io::sim::Faults;
use posthouse_io::{Failure, File, FileFault, FilePart, Gather, Op, Outcome, Segment};

use crate::disk_fixture::DiskFixture;
use crate::fixture::gather;

/// Returns `bytes` of the file from `offset`, between two words.
fn between(file: &File, offset: u64, bytes: usize) -> Gather {
    let mut all = gather(b"head");
    all.push(Segment::File(Box::new(FilePart::new(file.clone(), offset, bytes))));
    all.push(Segment::Owned(b"tail".to_vec()));
    all
}

/// Sends a gather and calls `meanwhile` after each send. Returns the bytes that arrived, and the
/// fault, if any, of each file part.
fn sent(
    disk_fixture: &DiskFixture,
    mut left: Gather,
    mut meanwhile: impl FnMut(),
) -> (Vec<u8>, FileFaults) {
    let (socket, raw, listener) = disk_fixture.fixture.pair();
    let mut faults = Vec::new();
    let mut came = Vec::new();
    while !left.is_empty() {
        let Outcome::Sent { bytes, mut gather } =
            disk_fixture.fixture.perform(Op::Send(socket, left))
        else {
            panic!("sent")
        };
        gather.advance(bytes, |segment| match segment {
            Segment::File(part) => faults.push(part.fault()),
            Segment::Owned(_) | Segment::Shared(_) => {}
        });
        left = gather;
        meanwhile();
        disk_fixture.fixture.network.settle();
        came.extend(raw.take_received());
    }
    disk_fixture.fixture.close(&[socket, listener]);
    (came, faults)
}

type FileFaults = Vec<Option<FileFault>>;

#[test]
fn a_file_arrives_between_what_was_sent_before_and_after_it() {
    for seed in 0..50 {
        let faults = match seed % 2 {
            0 => Faults::typical(),
            _ => Faults { no_descriptors_ppm: 0, ..Faults::from_seed(seed).without_losses() },
        };
        let disk_fixture = DiskFixture::on(&posthouse_io::sim::Network::with(seed, faults));
        let content: Vec<u8> = (0..50_000u32).map(|i| (i * 31 % 251) as u8).collect();
        disk_fixture.disk.write("file", &content);
        let (file, _) = disk_fixture.open("file").unwrap();
        let (came, faults) = sent(&disk_fixture, between(&file, 10, 40_000), || {});
        assert!(came == [b"head", &content[10..40_010], b"tail"].concat(), "seed {seed}");
        assert_eq!(faults, [None], "seed {seed}");
        disk_fixture.fixture.end_clean();
    }
}

#[test]
fn what_a_file_has_lost_is_made_up_with_zeros() {
    let disk_fixture = DiskFixture::new(Faults { window_bytes: 100..=100, ..Faults::none() });
    disk_fixture.disk.write("file", &[7; 1000]);
    let (file, _) = disk_fixture.open("file").unwrap();
    let mut sends = 0;
    let (came, faults) = sent(&disk_fixture, between(&file, 0, 1000), || {
        sends += 1;
        if sends == 6 {
            disk_fixture.disk.truncate("file", 1);
        }
    });
    assert_eq!((came.len(), faults), (1008, vec![Some(FileFault::Short)]));
    let content = &came[4..1004];
    let kept = content.iter().take_while(|byte| **byte == 7).count();
    assert!(kept > 0 && kept < 1000, "{kept}");
    assert!(content[kept..].iter().all(|byte| *byte == 0));
    assert_eq!(&came[1004..], b"tail");
}

#[test]
fn a_disk_that_fails_is_made_up_with_zeros() {
    for crashes in [false, true] {
        let disk_fixture = DiskFixture::new(Faults::none());
        disk_fixture.disk.write("file", &[7; 1000]);
        disk_fixture.disk.sync_all();
        let (file, _) = disk_fixture.open("file").unwrap();
        if crashes {
            disk_fixture.disk.crash();
        } else {
            let faults = Faults { sendfile_fails_ppm: 1_000_000, ..Faults::none() };
            disk_fixture.set_faults(faults);
        }
        let (came, faults) = sent(&disk_fixture, between(&file, 0, 1000), || {});
        assert_eq!(came, [b"head".to_vec(), vec![0; 1000], b"tail".to_vec()].concat());
        let failed = posthouse_io::Error::new(Failure::Disk);
        assert_eq!(faults, [Some(FileFault::Failed(failed))]);
    }
}

#[test]
#[should_panic(expected = "a part is sent")]
fn a_part_is_not_sent() {
    let disk_fixture = DiskFixture::new(Faults::none());
    let file = disk_fixture.part_with("p", b"half");
    let (socket, _raw, _) = disk_fixture.fixture.pair();
    let mut all = Gather::default();
    all.push(Segment::File(Box::new(FilePart::new(file, 0, 4))));
    disk_fixture.fixture.perform(Op::Send(socket, all));
}
