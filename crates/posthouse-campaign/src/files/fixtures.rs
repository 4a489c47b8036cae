//! The files that clients have: their names and contents.

use crate::traffic::Rng;

/// The names of the files. A disk cannot hold all of them: `a` is a file, and so is `a/x`.
pub(super) const NAMES: [&str; 7] = ["a", "b", "deep/down/c", "deep/d", "e.txt", "f", "a/x"];

/// The files of the server that no client sends and that many clients get.
pub(super) const POPULAR: [&str; 2] = ["only/here", "g"];

/// Returns bytes that the number decides.
pub(super) fn content(number: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::new(number);
    let mut content = vec![0; bytes];
    for piece in content.chunks_mut(8) {
        piece.copy_from_slice(&rng.next().to_le_bytes()[..piece.len()]);
    }
    content
}

/// Returns the content of a file. Other files may have the same content, the same beginning or the
/// same length.
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

/// Returns the content of a file that a client has at the start. One in 24 is large and can exceed
/// a receiver's window.
pub(super) fn content_for_client(rng: &mut Rng) -> Vec<u8> {
    if rng.one_in(24) {
        content(rng.below(3), 100_000 + rng.below(250_000) as usize)
    } else {
        some_content(rng)
    }
}
