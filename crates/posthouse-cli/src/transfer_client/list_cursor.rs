//! The position in the server's list of files.

use posthouse::{FileEntry, Target};

use crate::failure::Failure;

/// A walk over the files of the server whose names begin with a prefix, page by page.
#[derive(Debug)]
pub(crate) struct ListCursor {
    prefix: String,
    /// The last name that was listed.
    after: String,
}

/// The files of a page that have the prefix.
#[derive(Debug)]
pub(crate) struct ListedFiles {
    pub(crate) files: Vec<FileEntry>,
    /// True exactly when no more files with the prefix follow.
    pub(crate) is_last: bool,
}

/// The position of a name among those that have the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Before,
    Within,
    Behind,
}

impl ListCursor {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), after: name_before(prefix) }
    }

    /// Returns the name after which the next page begins.
    pub(crate) fn after(&self) -> &str {
        &self.after
    }

    /// Takes the next page.
    ///
    /// # Errors
    ///
    /// The names do not ascend: a list in another order might never end.
    pub(crate) fn take(
        &mut self,
        page: Vec<FileEntry>,
        target: &Target,
    ) -> Result<ListedFiles, Failure> {
        let mut is_last = page.is_empty();
        let mut files = Vec::with_capacity(page.len());
        for entry in page {
            match self.advance(&entry.name) {
                Some(Position::Before) => {}
                Some(Position::Within) => files.push(entry),
                Some(Position::Behind) => {
                    is_last = true;
                    break;
                }
                None => {
                    let text = "violates the protocol: the names in its list do not ascend";
                    return Err(Failure::runtime(format!("{target} {text}")));
                }
            }
        }
        Ok(ListedFiles { files, is_last })
    }

    /// Moves to the next name and returns its position, or `None` if it does not follow the last
    /// one in order.
    fn advance(&mut self, name: &str) -> Option<Position> {
        if *name <= *self.after {
            return None;
        }
        self.after.clear();
        self.after.push_str(name);
        Some(if name.starts_with(&self.prefix) {
            Position::Within
        } else if *name > *self.prefix {
            Position::Behind
        } else {
            Position::Before
        })
    }
}

/// Returns the last name in order before all names that begin with the prefix.
fn name_before(prefix: &str) -> String {
    let mut before = prefix.to_owned();
    let Some(last) = before.pop() else { return before };
    let previous = (0..u32::from(last)).rev().find_map(char::from_u32);
    if let Some(previous) = previous {
        before.push(previous);
        before.push(char::MAX);
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_by_prefix_begins_right_before_the_first_name_that_has_it() {
        assert_eq!(name_before(""), "");
        for prefix in ["a", "build/", "ü", "\u{e000}", "\u{1}"] {
            let before = name_before(prefix);
            assert!(*before < *prefix, "{prefix:?} {before:?}");
            for name in ["a", "build/", "b", "build/0", "bu", "build-x", "ü", "\u{d7ff}z"] {
                let listed = *name > *before;
                assert!(listed || !name.starts_with(prefix), "{name:?} begins with {prefix:?}");
            }
        }
        assert!(*name_before("b") > *"azzzz", "names before the prefix are not listed");
    }

    #[test]
    fn names_that_do_not_ascend_end_the_walk() {
        let mut cursor = ListCursor::new("b/");
        for (name, position) in [
            ("b.", None),
            ("b.\u{10ffff}x", Some(Position::Before)),
            ("b/1", Some(Position::Within)),
            ("b/3", Some(Position::Within)),
            ("b/3", None),
            ("b/2", None),
            ("b0", Some(Position::Behind)),
        ] {
            assert_eq!(cursor.advance(name), position, "{name}");
        }
    }
}
