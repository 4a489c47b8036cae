//! `cargo xtask planted`: proves that the simulation finds mistakes.
//!
//! A copy of the workspace gets one known mistake at a time; the campaign must then fail, at a seed
//! at which the unchanged program passes.

mod campaign;
mod copy;
mod files;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Outcome, workspace};
use campaign::Verdict;
use copy::Copy;

pub(crate) const SEEDS_DEFAULT: u64 = 20_000;

/// The mistakes, each table with what `posthouse sim` runs to find them.
const TABLES: &[Table] = &[("traffic", table::PLANTED), ("files", files::PLANTED)];

type Table<'a> = (&'static str, &'a [Mistake]);

/// One mistake, as data.
struct Mistake {
    name: &'static str,
    /// The contract it breaks, `C1` to `C10`, and how, in a few words.
    breaks: &'static str,
    /// The path of the file, from the root of the workspace.
    file: &'static str,
    /// Text of the file, as written; it must occur exactly once.
    find: &'static str,
    replace: &'static str,
}

/// Runs the campaign against the mistake called `name`, or against all of them.
pub(crate) fn run(name: Option<&str>, seeds: u64) -> Outcome {
    let chosen = choose(TABLES, name)?;
    let root = workspace::root();
    let files = workspace::files(&root)?;
    // A stale entry is told at once, not after the campaigns before it.
    for (_, mistake) in &chosen {
        apply(mistake, &read(&root.join(mistake.file))?)?;
    }
    let place = workspace::target_directory(&root)?.join("planted");
    let copy = Copy::fresh(&root, &files, &place)?;
    println!("building the unchanged program");
    let unchanged = copy.build_unchanged()?;

    let mut missed = Vec::new();
    for (what, mistake) in &chosen {
        let verdict = try_one(mistake, what, &copy, &unchanged, seeds)?;
        println!("{:40} {verdict:40} breaks {}", mistake.name, mistake.breaks);
        if !verdict.is_found() {
            missed.push(mistake.name);
        }
    }
    if missed.is_empty() {
        println!("{} of {} planted mistakes found", chosen.len(), chosen.len());
        return Ok(());
    }
    Err(format!("{} of {} not found: {}", missed.len(), chosen.len(), missed.join(", ")))
}

fn try_one(
    mistake: &Mistake,
    what: &str,
    copy: &Copy,
    unchanged: &Path,
    seeds: u64,
) -> Outcome<Verdict> {
    let path = copy.tree().join(mistake.file);
    let original = read(&path)?;
    write(&path, &apply(mistake, &original)?)?;
    let built = copy.build();
    // Put back before anything can fail: the copy serves the next mistake.
    write(&path, &original)?;
    let program = built.map_err(|error| format!("{} does not build: {error}", mistake.name))?;
    let verdict = campaign::run(&program, what, seeds, 0)?;
    if let Verdict::Found { seed, .. } = verdict
        && campaign::run(unchanged, what, 1, seed)? != Verdict::NotFound
    {
        return Err(format!(
            "seed {seed} fails without {} too: \
             `cargo xtask sim --from {seed} --seeds 1 --what {what}`",
            mistake.name
        ));
    }
    Ok(verdict)
}

/// The mistakes called so, or all, each with what has to run.
fn choose<'a>(
    tables: &'a [Table<'a>],
    name: Option<&str>,
) -> Outcome<Vec<(&'static str, &'a Mistake)>> {
    let with_what = |(what, table): &Table<'a>| {
        let what = *what;
        table.iter().map(move |mistake| (what, mistake))
    };
    let all: Vec<_> = tables.iter().flat_map(with_what).collect();
    if all.is_empty() {
        return Err("no planted mistakes in the table".into());
    }
    let names: BTreeSet<_> = all.iter().map(|(_, mistake)| mistake.name).collect();
    if names.len() != all.len() {
        return Err("two planted mistakes have the same name".into());
    }
    let Some(name) = name else { return Ok(all) };
    let found = all.into_iter().find(|(_, mistake)| mistake.name == name);
    found.map(|found| vec![found]).ok_or_else(|| {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        format!("no planted mistake is called `{name}`; there are: {names}")
    })
}

/// `text` with the mistake in it.
fn apply(mistake: &Mistake, text: &str) -> Outcome<String> {
    match text.matches(mistake.find).count() {
        1 => Ok(text.replacen(mistake.find, mistake.replace, 1)),
        count => Err(format!(
            "planted mistake {}: its `find` occurs {count} times in {}, not once; \
             adapt it to the source",
            mistake.name, mistake.file
        )),
    }
}

fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &PathBuf, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISTAKE: Mistake = Mistake {
        name: "close_early",
        breaks: "C3",
        file: "src/close.rs",
        find: "flights == 0",
        replace: "true",
    };

    #[test]
    fn a_mistake_is_put_in_where_its_text_stands() {
        let changed = apply(&MISTAKE, "if flights == 0 { close() }");
        assert_eq!(changed.as_deref(), Ok("if true { close() }"));
    }

    #[test]
    fn a_text_that_does_not_occur_exactly_once_names_the_entry() {
        for text in ["nothing here", "flights == 0 && flights == 0"] {
            let error = apply(&MISTAKE, text).unwrap_err();
            assert!(error.contains("close_early") && error.contains("src/close.rs"), "{error}");
        }
    }

    #[test]
    fn an_empty_table_is_an_error() {
        let error = choose(&[("traffic", &[])], None).err();
        assert_eq!(error.as_deref(), Some("no planted mistakes in the table"));
    }

    #[test]
    fn one_mistake_can_be_chosen_and_an_unknown_one_lists_the_names() {
        let other = Mistake { name: "close_late", ..MISTAKE };
        let tables: [Table<'_>; 2] = [("traffic", &[MISTAKE]), ("files", &[other])];
        let chosen = |name| {
            let chosen = choose(&tables, name)?;
            Outcome::Ok(chosen.iter().map(|(what, it)| (*what, it.name)).collect::<Vec<_>>())
        };
        let both = vec![("traffic", "close_early"), ("files", "close_late")];
        assert_eq!(chosen(None), Ok(both));
        assert_eq!(chosen(Some("close_late")), Ok(vec![("files", "close_late")]));
        assert!(chosen(Some("other")).unwrap_err().contains("close_early, close_late"));
    }

    #[test]
    fn two_mistakes_of_one_name_are_refused() {
        let tables: [Table<'_>; 2] = [("traffic", &[MISTAKE]), ("files", &[MISTAKE])];
        assert!(choose(&tables, None).is_err());
    }
}
