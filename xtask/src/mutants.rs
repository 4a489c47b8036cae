//! `cargo xtask mutants`: proves that the simulation finds mistakes.
//!
//! Each file of `xtask/mutants` is a patch with one mistake. A head of two lines names the mistake
//! and the command that finds it. This chore applies one patch at a time to a copy of the
//! workspace; the command must then fail at a seed at which the unchanged program passes.

mod campaign;
mod copy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Result, workspace};
use campaign::{Campaign, Verdict};
use copy::Copy;

pub(crate) const SEEDS_DEFAULT: u64 = 20_000;

/// The directory of the patches, relative to the root of the workspace.
const PATCHES: &str = "xtask/mutants";
const MISTAKE: &str = "Mistake: ";
const FOUND_BY: &str = "Found by: posthouse ";

struct Mutant {
    name: String,
    patch: PathBuf,
    /// The contract that the mistake breaks, `C1` to `C10`, and a few words on the way it does so.
    mistake: String,
    /// The arguments of the program that finds the mistake, without the seeds.
    found_by: Vec<String>,
}

/// Checks that every patch applies. The error names all patches that do not.
pub(crate) fn check() -> Result {
    let root = workspace::root();
    let mutants = read(&root)?;
    let failed: Vec<String> =
        mutants.iter().filter_map(|mutant| apply(mutant, &root, &["--check"]).err()).collect();
    if failed.is_empty() {
        println!("{} mutants apply", mutants.len());
        return Ok(());
    }
    Err(format!("{} of {} mutants:\n{}", failed.len(), mutants.len(), failed.join("\n")))
}

/// Runs the campaign against the mutant `name`, or against all of them.
pub(crate) fn run(name: Option<&str>, seeds: u64) -> Result {
    let root = workspace::root();
    let chosen = choose(read(&root)?, name)?;
    // Reports a stale patch at once, not after the campaigns before it.
    for mutant in &chosen {
        apply(mutant, &root, &["--check"])?;
    }
    let copy = Copy::new(&root, workspace::target_directory(&root)?.join("mutants"))?;
    println!("building the unchanged program");
    let unchanged = copy.build_unchanged()?;

    let mut missed = Vec::new();
    for mutant in &chosen {
        // One that does not build is no reason to leave out the others.
        let found = match try_one(mutant, &copy, &unchanged, seeds) {
            Ok(verdict) => {
                println!("{:40} {verdict:40} breaks {}", mutant.name, mutant.mistake);
                matches!(verdict, Verdict::Found { .. })
            }
            Err(error) => {
                println!("{:40} {error}", mutant.name);
                false
            }
        };
        if !found {
            missed.push(mutant.name.as_str());
        }
    }
    if missed.is_empty() {
        println!("{} of {} mutants found", chosen.len(), chosen.len());
        return Ok(());
    }
    Err(format!("{} of {} not found: {}", missed.len(), chosen.len(), missed.join(", ")))
}

fn try_one(mutant: &Mutant, copy: &Copy, unchanged: &Path, seeds: u64) -> Result<Verdict> {
    copy.restore()?;
    apply(mutant, &copy.tree(), &[])?;
    let program = copy.build().map_err(|error| format!("{}: {error}", mutant.name))?;
    let campaign = |program, seeds, from| {
        campaign::run(&Campaign { program, command: &mutant.found_by, seeds, from })
    };
    let verdict = campaign(&program, seeds, 0)?;
    if let Verdict::Found { seed, .. } = verdict
        && campaign(unchanged, 1, seed)? != Verdict::NotFound
    {
        let command = mutant.found_by.join(" ");
        return Err(format!(
            "the unchanged program fails as well: posthouse {command} --from {seed} --seeds 1"
        ));
    }
    Ok(verdict)
}

/// Applies the patch to the files in `tree`.
fn apply(mutant: &Mutant, tree: &Path, options: &[&str]) -> Result {
    let mut git = Command::new("git");
    git.arg("apply").args(options).arg(&mutant.patch).current_dir(tree);
    // In a subdirectory of a repository git would take the paths from the root of the repository.
    git.env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    let output = git.output().map_err(|error| format!("cannot run git apply: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} does not apply; adapt it to the source\n{said}", mutant.patch.display()))
}

/// Reads all mutants, in the order of their names.
fn read(root: &Path) -> Result<Vec<Mutant>> {
    let directory = root.join(PATCHES);
    let failed = |error| format!("cannot read {PATCHES}: {error}");
    let mut mutants = Vec::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let patch = entry.map_err(failed)?.path();
        let text = fs::read_to_string(&patch).map_err(failed)?;
        mutants.push(parse(patch, &text)?);
    }
    mutants.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(mutants)
}

fn parse(patch: PathBuf, text: &str) -> Result<Mutant> {
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let head = |mark: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(mark));
        line.ok_or_else(|| format!("{}: there is no line `{mark}...`", patch.display()))
    };
    let mistake = head(MISTAKE)?.to_owned();
    let found_by = head(FOUND_BY)?.split_whitespace().map(str::to_owned).collect();
    Ok(Mutant { name, patch, mistake, found_by })
}

fn choose(mut mutants: Vec<Mutant>, name: Option<&str>) -> Result<Vec<Mutant>> {
    let Some(name) = name else { return Ok(mutants) };
    let names: Vec<_> = mutants.iter().map(|mutant| mutant.name.clone()).collect();
    mutants.retain(|mutant| mutant.name == name);
    if mutants.is_empty() {
        return Err(format!("there is no mutant `{name}`; there are: {}", names.join(", ")));
    }
    Ok(mutants)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Mistake: C3: closed early\nFound by: posthouse sim --what files\n
diff --git a/close.rs b/close.rs\n--- a/close.rs\n+++ b/close.rs\n@@ -1,1 +1,1 @@
-in_flight == 0\n+true\n";

    #[test]
    fn the_head_of_a_patch_says_what_the_mistake_is_and_what_finds_it() {
        let mutant = parse("xtask/mutants/close_early.patch".into(), TEXT).unwrap();
        assert_eq!(mutant.name, "close_early");
        assert_eq!(mutant.mistake, "C3: closed early");
        assert_eq!(mutant.found_by, ["sim", "--what", "files"]);
        let error = parse("a.patch".into(), "Mistake: C3\n").err().unwrap();
        assert!(error.contains("Found by"), "{error}");
    }

    #[test]
    fn a_patch_is_applied_below_a_repository_and_one_that_is_stale_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("target/tree");
        fs::create_dir_all(&tree).unwrap();
        fs::create_dir(directory.path().join(".git")).unwrap();
        let patch = directory.path().join("close_early.patch");
        fs::write(&patch, TEXT).unwrap();
        let mutant = parse(patch, TEXT).unwrap();
        fs::write(tree.join("close.rs"), "in_flight == 0\n").unwrap();
        apply(&mutant, &tree, &["--check"]).unwrap();
        apply(&mutant, &tree, &[]).unwrap();
        assert_eq!(fs::read_to_string(tree.join("close.rs")).unwrap(), "true\n");
        assert!(apply(&mutant, &tree, &[]).unwrap_err().contains("close_early.patch"));
    }

    #[test]
    fn one_mutant_can_be_chosen_and_an_unknown_one_lists_the_names() {
        let mutants =
            || vec![parse("a.patch".into(), TEXT).unwrap(), parse("b.patch".into(), TEXT).unwrap()];
        let names = |name| choose(mutants(), name).map(|chosen| chosen.len());
        assert_eq!(names(None), Ok(2));
        assert_eq!(names(Some("b")), Ok(1));
        assert!(names(Some("c")).unwrap_err().contains("a, b"));
    }
}
