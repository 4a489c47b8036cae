//! The names of part files, in which a receiver collects the received bytes of a file.

use super::file_name::FileName;

/// Returns the name of a receiver's part file, which is the same for the same name,
/// size and modification time, and differs for any other.
pub fn part_file_name(name: &FileName, size: u64, modified_ns: Option<i64>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&size.to_le_bytes());
    hasher.update(&modified_ns.unwrap_or(i64::MIN).to_le_bytes());
    hasher.update(name.as_str().as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_a_name_of_its_own_for_every_file() {
        let name = |name: &str| FileName::parse(name).unwrap();
        let first = part_file_name(&name("a"), 1, Some(2));
        assert_eq!(first, part_file_name(&name("a"), 1, Some(2)));
        assert!(first.len() == 32 && first.bytes().all(|b| b.is_ascii_hexdigit()));
        for other in [
            part_file_name(&name("b"), 1, Some(2)),
            part_file_name(&name("a"), 2, Some(2)),
            part_file_name(&name("a"), 1, Some(3)),
            part_file_name(&name("a"), 1, None),
        ] {
            assert_ne!(first, other);
        }
    }
}
