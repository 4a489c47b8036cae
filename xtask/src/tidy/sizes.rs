//! How large a file, a function and a line may be.

use super::source::{Source, closing, identifier};
use super::tree::Tree;
use super::{Finding, Rule};

pub(super) const FILE: Rule =
    Rule { name: "file-length", says: "a source file has at most 800 lines", check: files };

pub(super) const FUNCTION: Rule = Rule {
    name: "function-length",
    says: "a function, tests included, has at most 70 lines",
    check: functions,
};

pub(super) const LINE: Rule =
    Rule { name: "line-length", says: "a line of source has at most 100 columns", check: lines };

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

fn files(tree: &Tree) -> Vec<Finding> {
    let over = |source: &Source| {
        let lines = source.text.lines().count();
        (lines > FILE_LINES_MAX).then(|| Finding {
            path: source.path.clone(),
            line: FILE_LINES_MAX + 1,
            text: format!("{lines} lines, at most {FILE_LINES_MAX}: find the second idea in it"),
        })
    };
    tree.sources.iter().filter_map(over).collect()
}

fn functions(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for at in source.words("fn") {
            let Some((name, body)) = function(&source.code, at) else { continue };
            let Some(end) = closing(&source.code, body) else { continue };
            let lines = source.line(end) - source.line(at) + 1;
            if lines > FUNCTION_LINES_MAX {
                found.push(Finding {
                    path: source.path.clone(),
                    line: source.line(at),
                    text: format!(
                        "`{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}: \
                         give a part of it a name"
                    ),
                });
            }
        }
    }
    found
}

/// The name of the function whose `fn` stands at `at`, and where its body opens; none for a
/// pointer type or a declaration.
fn function(code: &str, at: usize) -> Option<(&str, usize)> {
    let (name, _) = identifier(code[at + 2..].trim_start())?;
    let mut next = at;
    loop {
        next += code[next..].find(['(', '[', '{', ';'])?;
        match code.as_bytes()[next] {
            b'{' => return Some((name, next)),
            b';' => return None,
            _ => next = closing(code, next)? + 1,
        }
    }
}

fn lines(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in &tree.sources {
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                found.push(Finding {
                    path: source.path.clone(),
                    line: number + 1,
                    text: format!("{columns} columns, at most {LINE_COLUMNS_MAX}: break the line"),
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::of(&[("crates/posthouse/src/peer.rs", text)])
    }

    #[test]
    fn a_file_may_have_800_lines_and_no_more() {
        assert_eq!(files(&tree(&"\n".repeat(800))), []);
        assert_eq!(files(&tree(&"\n".repeat(801))).len(), 1);
    }

    #[test]
    fn a_function_may_have_70_lines_and_no_more() {
        let function = |lines: usize| {
            format!("fn f() {{\n{}}}\nfn g() {{}}\n", "    x();\n".repeat(lines - 2))
        };
        assert_eq!(functions(&tree(&function(70))), []);
        let found = functions(&tree(&function(71)));
        assert_eq!(found.len(), 1);
        assert!(found[0].text.contains("`f` has 71 lines"), "{}", found[0].text);
    }

    #[test]
    fn braces_in_strings_do_not_end_a_function() {
        let body = "    let a = (\"}\", '}', r#\"}\"#); // }\n".repeat(70);
        assert_eq!(functions(&tree(&format!("fn f(x: [u8; 3]) {{\n{body}}}"))).len(), 1);
    }

    #[test]
    fn a_declaration_and_a_pointer_are_no_functions() {
        let long = "\n".repeat(80);
        let text = format!("trait T {{ fn f(&self); const C: () = {{{long}}}; }} type F = fn(u8);");
        assert_eq!(functions(&tree(&text)), []);
    }

    #[test]
    fn columns_are_characters_not_bytes() {
        assert_eq!(lines(&tree(&"é".repeat(100))), []);
        assert_eq!(lines(&tree(&"é".repeat(101))).len(), 1);
    }
}
