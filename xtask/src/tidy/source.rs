//! A Rust source as the rules see it: what is code, what is comment, what is test.
//!
//! This is no parser. It knows strings, characters, comments, brackets and attributes well enough
//! that a word in a string is not taken for code, and it keeps every byte at its place.

use std::ops::Range;

pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
    /// The text with comments and the insides of strings and characters replaced by spaces.
    pub(super) code: String,
    /// The text with everything but comments replaced by spaces.
    pub(super) comments: String,
    /// Where code stands that is compiled for tests only.
    tests: Vec<Range<usize>>,
}

impl Source {
    pub(super) fn new(path: String, text: String) -> Self {
        let (code, comments) = split(&text);
        let whole_is_test =
            path.split('/').rev().skip(1).any(|part| part == "tests" || part == "benches");
        let tests = test_items(&code);
        let mut source = Self { path, text, code, comments, tests };
        if whole_is_test {
            source.mark_as_test();
        }
        source
    }

    pub(super) fn mark_as_test(&mut self) {
        self.tests.push(0..usize::MAX);
    }

    pub(super) fn is_test(&self, at: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&at))
    }

    /// The line, from 1, of the byte `at`.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    /// Where `word` stands in the code as a whole word.
    pub(super) fn words<'a>(&'a self, word: &'a str) -> impl Iterator<Item = usize> {
        words(&self.code, word)
    }

    /// The attributes, inner and outer: where each begins, and the code between its brackets.
    pub(super) fn attributes(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.match_indices('#').filter_map(|(at, _)| {
            let open = at + 1 + usize::from(self.code.as_bytes().get(at + 1) == Some(&b'!'));
            let close = (self.code.as_bytes().get(open) == Some(&b'['))
                .then(|| closing(&self.code, open))??;
            Some((at, &self.code[open + 1..close]))
        })
    }

    /// The paths, without `.rs`, of the modules that this file declares for tests and that stand
    /// in files of their own.
    pub(super) fn test_modules(&self) -> Vec<String> {
        let Some((directory, file)) = self.path.rsplit_once('/') else { return Vec::new() };
        let own = match file {
            "lib.rs" | "main.rs" | "mod.rs" => directory.to_owned(),
            _ => self.path.trim_end_matches(".rs").to_owned(),
        };
        self.words("mod")
            .filter(|&at| self.is_test(at))
            .filter_map(|at| {
                let (name, rest) = identifier(self.code[at + 3..].trim_start())?;
                rest.trim_start().starts_with(';').then(|| format!("{own}/{name}"))
            })
            .collect()
    }
}

/// Where `word` stands in `text` with no other word character beside it.
pub(super) fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> {
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        !text[..at].ends_with(is_word) && !text[at + word.len()..].starts_with(is_word)
    })
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The identifier at the beginning of `code`, and what follows it.
pub(super) fn identifier(code: &str) -> Option<(&str, &str)> {
    let end = code.find(|c| !is_word(c)).unwrap_or(code.len());
    let first = code.chars().next()?;
    (end > 0 && !first.is_numeric()).then(|| code.split_at(end))
}

/// Where the bracket that opens at `open` is closed.
pub(super) fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Code and comments of `text`, each in a copy of the same length.
fn split(text: &str) -> (String, String) {
    let bytes = text.as_bytes();
    let blank = |byte: &u8| if *byte == b'\n' { b'\n' } else { b' ' };
    let mut code = bytes.to_vec();
    let mut comments: Vec<u8> = bytes.iter().map(blank).collect();
    let mut at = 0;
    while at < bytes.len() {
        let (end, inside) = match token(text, at) {
            Token::Comment(end) => {
                comments[at..end].copy_from_slice(&bytes[at..end]);
                (end, at..end)
            }
            Token::Literal { end, inside } => (end, inside),
            Token::Code(end) => {
                at = end;
                continue;
            }
        };
        for byte in &mut code[inside] {
            *byte = blank(byte);
        }
        at = end;
    }
    // Only whole comments and whole insides of literals were replaced, so both are still UTF-8.
    let text = |bytes| String::from_utf8(bytes).unwrap_or_default();
    (text(code), text(comments))
}

enum Token {
    Comment(usize),
    Literal { end: usize, inside: Range<usize> },
    Code(usize),
}

/// The token that begins at `at`, and where it ends.
fn token(text: &str, at: usize) -> Token {
    let rest = &text[at..];
    let bytes = rest.as_bytes();
    match bytes[0] {
        b'/' if rest.starts_with("//") => {
            Token::Comment(at + rest.find('\n').unwrap_or(rest.len()))
        }
        b'/' if rest.starts_with("/*") => Token::Comment(at + block_comment(rest)),
        b'"' => literal(at, 1, string(rest, 1)),
        b'\'' => match character(rest) {
            Some(end) => literal(at, 1, end),
            None => Token::Code(at + 1),
        },
        _ => {
            let Some((word, after)) = identifier(rest) else {
                return Token::Code(at + rest.chars().next().map_or(1, char::len_utf8));
            };
            let hashes = after.bytes().take_while(|&byte| byte == b'#').count();
            let raw = matches!(word, "r" | "br" | "cr") && after[hashes..].starts_with('"');
            if !raw {
                return Token::Code(at + word.len());
            }
            let open = word.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = rest[open..].find(&close).map_or(rest.len(), |n| open + n + close.len());
            Token::Literal { end: at + end, inside: at + open..(at + end - close.len().min(end)) }
        }
    }
}

fn literal(at: usize, open: usize, end: usize) -> Token {
    Token::Literal { end: at + end, inside: at + open..(at + end - 1).max(at + open) }
}

/// The end of the block comment that `rest` begins with; they nest.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// The end of the string whose inside begins at `open`.
fn string(rest: &str, open: usize) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(open) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The end of the character that `rest` begins with, or `None` if it is a lifetime.
fn character(rest: &str) -> Option<usize> {
    let first = rest[1..].chars().next()?;
    let after = 1 + first.len_utf8();
    if first == '\\' {
        let escaped = rest[after..].chars().next()?.len_utf8();
        return rest[after + escaped..].find('\'').map(|n| after + escaped + n + 1);
    }
    (first != '\'' && rest[after..].starts_with('\'')).then_some(after + 1)
}

/// Where the items stand that `#[cfg(test)]` keeps for tests.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[cfg(") {
        let Some(close) = closing(code, at + 1) else { continue };
        let condition = &code[at + 6..close];
        if words(condition, "test").next().is_some() && words(condition, "not").next().is_none() {
            found.push(at..item_end(code, close + 1));
        }
    }
    found
}

/// The end of the item, field or arm that begins at `from`, attributes before it included.
fn item_end(code: &str, from: usize) -> usize {
    let mut at = from;
    loop {
        at += code[at..].len() - code[at..].trim_start().len();
        if !code[at..].starts_with("#[") {
            break;
        }
        match closing(code, at + 1) {
            Some(close) => at = close + 1,
            None => return code.len(),
        }
    }
    // An item may hold commas (in its generics); a field or an arm ends at one.
    let item = identifier(&code[at..]).is_some_and(|(word, _)| {
        ["fn", "pub", "mod", "impl", "struct", "enum", "const", "static", "use", "trait", "type"]
            .contains(&word)
    });
    while let Some(byte) = code.as_bytes().get(at) {
        match byte {
            b'{' => return closing(code, at).map_or(code.len(), |close| close + 1),
            b'(' | b'[' => match closing(code, at) {
                Some(close) => at = close,
                None => return code.len(),
            },
            b';' => return at + 1,
            b'}' => return at,
            b',' if !item => return at + 1,
            _ => {}
        }
        at += 1;
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::new("crates/a/src/b.rs".into(), text.into())
    }

    #[test]
    fn comments_and_strings_are_not_code() {
        let text = "let a = \"one // two \\\" three\"; // four\n/* five /* six */ seven */ \
                    let b = r#\"eight \"nine\"\"#; let c = br\"ten\\\"; let d = b\"\\\\\";";
        let source = source(text);
        for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
        {
            assert!(!source.code.contains(word), "{word} in {}", source.code);
        }
        for word in ["let a =", "let b =", "let c =", "let d ="] {
            assert!(source.code.contains(word), "{word} not in {}", source.code);
        }
        assert!(source.comments.contains("four") && source.comments.contains("seven"));
        assert!(!source.comments.contains("two") && !source.comments.contains("let"));
        assert_eq!(source.code.len(), text.len());
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        let text = r"fn f<'a>(x: &'a str) { ['{', '\'', '\u{7d}', '\\', '}', b'}', 'ü'] }";
        let source = source(text);
        let open = source.code.find('{').unwrap();
        assert_eq!(closing(&source.code, open), Some(text.len() - 1));
        assert!(source.code.contains("<'a>(x: &'a str)"));
    }

    #[test]
    fn a_raw_identifier_is_no_raw_string() {
        let source = source("let r#type = 1; let x = \"hidden\"; let shown = 2;");
        assert!(source.code.contains("shown") && !source.code.contains("hidden"));
    }

    #[test]
    fn items_for_tests_end_where_they_end() {
        let text = "#[cfg(test)]\nmod tests {\n fn inside() {}\n}\nfn outside() {}
#[cfg(all(test, unix))]\n#[allow(x)]\nfn g<A, B>(a: A) { inside_too() }
#[cfg(not(test))] fn outside_too() {} #[cfg(test)] use a::b_inside; fn last_outside() {}
struct S { #[cfg(test)] field_inside: u8, field_outside: u8 }";
        let source = source(text);
        for (at, _) in source.code.match_indices("inside") {
            assert!(source.is_test(at), "{}", &text[at..]);
        }
        for (at, _) in source.code.match_indices("outside") {
            assert!(!source.is_test(at), "{}", &text[at..]);
        }
    }

    #[test]
    fn integration_tests_are_test_code_and_a_file_named_tests_is_not_by_its_name() {
        let test = |path: &str| Source::new(path.into(), String::new()).is_test(0);
        assert!(test("crates/a/tests/echo.rs") && test("crates/a/tests/net/mod.rs"));
        assert!(!test("crates/a/src/tests.rs"));
    }

    #[test]
    fn attributes_are_found_with_what_is_in_them() {
        let source =
            source("#![forbid(unsafe_code)]\n#[allow(dead_code, reason = \"x]\")] fn f() {}");
        let found: Vec<_> = source.attributes().map(|(_, inside)| inside).collect();
        assert_eq!(found, ["forbid(unsafe_code)", "allow(dead_code, reason = \"  \")"]);
    }

    #[test]
    fn words_are_whole() {
        let source = source("unsafe_code unsafe fnunsafe");
        assert_eq!(source.words("unsafe").collect::<Vec<_>>(), [12]);
    }
}
