//! The position in the server's list of files.

use posthouse::{Escaped, FileEntry, FileList};

/// A walk over the files of the server whose names begin with a prefix, page by page.
#[derive(Debug)]
pub(crate) struct ListCursor {
    prefix: String,
    /// The name after which the next page begins.
    after: String,
}

/// The names of a page that have the prefix.
#[derive(Debug)]
pub(crate) struct ListedNames {
    pub(crate) files: Vec<FileEntry>,
    pub(crate) invalid: InvalidNames,
    /// True exactly when no more names with the prefix follow.
    pub(crate) is_last: bool,
}

/// The invalid names in the server's list.
#[derive(Debug, Default)]
pub(crate) struct InvalidNames {
    count: u64,
    first: Option<Box<[u8]>>,
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
    pub(crate) fn take(&mut self, page: FileList) -> ListedNames {
        let FileList { mut files, invalid_names, next, .. } = page;
        files.retain(|entry| entry.name.starts_with(&self.prefix));
        let mut invalid = InvalidNames::default();
        let prefix = self.prefix.as_bytes();
        invalid_names.into_iter().filter(|name| name.starts_with(prefix)).for_each(|name| {
            invalid.add(InvalidNames { count: 1, first: Some(name) });
        });
        let is_behind = |name: &str| *name > *self.prefix && !name.starts_with(&self.prefix);
        let is_last = next.as_deref().is_none_or(is_behind);
        self.after = next.unwrap_or_default().into();
        ListedNames { files, invalid, is_last }
    }
}

impl InvalidNames {
    pub(crate) fn add(&mut self, later: Self) {
        self.count += later.count;
        if self.first.is_none() {
            self.first = later.first;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns the message to the user, if there are such names.
    pub(crate) fn message(&self) -> Option<String> {
        let first = String::from_utf8_lossy(self.first.as_deref()?);
        let first = Escaped(&*first);
        Some(match self.count {
            1 => format!("1 invalid name in the list was left out: {first}"),
            count => format!("{count} invalid names in the list were left out, first {first}"),
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
    fn a_walk_ends_behind_its_prefix_and_not_before() {
        let mut cursor = ListCursor::new("b/");
        for (next, is_last) in [
            (Some("b.\u{10ffff}x"), false),
            (Some("b/1"), false),
            (Some("b/\u{10ffff}"), false),
            (Some("b0"), true),
            (None, true),
        ] {
            let mut page = FileList::default();
            page.next = next.map(Box::from);
            page.invalid_names = [&b"b/\xff"[..], b"b.\xff", b"b0\n"].map(Box::from).into();
            let listed = cursor.take(page);
            assert_eq!((listed.is_last, cursor.after()), (is_last, next.unwrap_or_default()));
            let message = listed.invalid.message();
            let expected = "1 invalid name in the list was left out: b/\u{fffd}";
            assert_eq!(message.as_deref(), Some(expected));
        }
    }
}
