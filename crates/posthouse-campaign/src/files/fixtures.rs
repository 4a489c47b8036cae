//! The files that clients have: their names and contents.

use crate::traffic::Rng;

/// The names of the files. Not all of them can be on one disk.
pub(super) const NAMES: [&str; 7] = ["a", "b", "deep/down/c", "deep/d", "e.txt", "f", "a/x"];

/// Files of the server's that nobody sends to it, and that many get.
pub(super) const POPULAR: [&str; 2] = ["only/here", "g"];

/// Bytes that follow from a number.
pub(super) fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let mut content = vec![0; bytes];
    for piece in content.chunks_mut(8) {
        piece.copy_from_slice(&rng.next().to_le_bytes()[..piece.len()]);
    }
    content
}

/// Content that others may have as well, or the beginning of it, or of the same length.
pub(super) fn some_content(rng: &mut Rng) -> Vec<u8> {
    let bytes = match rng.below(8) {
        0 => rng.below(2) as usize,
        1..=3 => [700, 9_000, 30_000][rng.below(3) as usize],
        4 => rng.below(10_000) as usize,
        _ => rng.below(60_000) as usize,
    };
    let mut content = content(rng.below(2), bytes);
    if rng.one_in(4) && bytes > 0 {
        let from = rng.below(bytes as u64) as usize;
        for byte in &mut content[from..] {
            *byte = !*byte;
        }
    }
    content
}

/// The files that a client has at first: now and then more than a receiver's window.
pub(super) fn content_for_client(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(24) {
        content(rng.below(3), 100_000 + rng.below(250_000) as usize)
    } else {
        some_content(rng)
    }
}
