//! `cargo xtask fuzz`: runs the targets of the package `posthouse-fuzz` under libFuzzer, from their
//! corpora on.
//!
//! A corpus in the repository is a file with one input a line, in hexadecimal digits. The fuzzer
//! works on a directory in the build directory, with one file for each input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::{Result, prerequisites, workspace};

/// The seconds that each target runs for by default.
const SECONDS_DEFAULT: u64 = 60;
/// The maximum length of an input, in bytes: enough for every state.
const MAX_INPUT_BYTES: u64 = 1024;
/// The maximum length of an input that is kept, in bytes. Longer ones are cut, so that the corpora
/// stay small.
const MAX_KEPT_BYTES: u64 = 256;
/// The fuzzer's workspace.
const PROGRAMS: &str = "fuzz/libfuzzer";
const TARGETS: [&str; 3] = ["session", "sender", "receiver"];

#[derive(Args)]
pub(crate) struct Settings {
    /// The part of the protocol to run: session, sender or receiver; by default all
    #[arg(value_parser = TARGETS)]
    target: Option<String>,
    /// The seconds that each target runs for
    #[arg(long, default_value_t = SECONDS_DEFAULT)]
    seconds: u64,
    /// Write the smallest set of inputs with the same coverage to fuzz/corpus
    #[arg(long)]
    keep: bool,
}

/// The files of one target.
struct Place {
    /// The corpus in the repository.
    kept: PathBuf,
    /// The directory of the inputs that the fuzzer reads, and adds to.
    inputs: PathBuf,
    /// The directory of the smallest set of inputs.
    smallest: PathBuf,
    /// The directory of the inputs that have failed.
    failures: PathBuf,
}

pub(crate) fn run(settings: &Settings) -> Result {
    prerequisites::require_fuzzer()?;
    let root = workspace::root();
    let chosen = |target: &&&str| settings.target.as_deref().is_none_or(|only| only == **target);
    for target in TARGETS.iter().filter(chosen) {
        run_one(&root, target, settings)?;
    }
    Ok(())
}

fn run_one(root: &Path, target: &str, settings: &Settings) -> Result {
    let place = Place::new(root, target)?;
    let kept = fs::read_to_string(&place.kept).map_err(failed(&place.kept))?;
    unpack(&kept, &place.inputs)?;
    empty(&place.failures)?;
    let mut fuzzer = fuzzer(root, target, MAX_INPUT_BYTES, &[&place.inputs])?;
    fuzzer.arg(format!("-max_total_time={}", settings.seconds));
    fuzzer.arg(format!("-artifact_prefix={}/", place.failures.display()));
    let outcome = workspace::succeed(&mut fuzzer);
    let failures = pack(&place.failures)?;
    if !failures.is_empty() {
        return Err(format!(
            "the {target} breaks a promise. Mend it, and add the input to \
             fuzz/corpus/{target}.txt, so that the tests replay it:\n{failures}"
        ));
    }
    outcome?;
    if settings.keep {
        empty(&place.smallest)?;
        let inputs: [&Path; 2] = [&place.smallest, &place.inputs];
        let mut merge = self::fuzzer(root, target, MAX_KEPT_BYTES, &inputs)?;
        workspace::succeed(merge.arg("-set_cover_merge=1"))?;
        fs::write(&place.kept, pack(&place.smallest)?).map_err(failed(&place.kept))?;
    }
    Ok(())
}

/// Returns the command that runs the fuzzer on these directories of inputs, which are cut after
/// `max_bytes`. It needs no nightly compiler, because the code has no unsafe block that a sanitizer
/// could observe.
fn fuzzer(root: &Path, target: &str, max_bytes: u64, inputs: &[&Path]) -> Result<Command> {
    let mut command = workspace::cargo(root, &["fuzz", "run", "--sanitizer", "none"]);
    command.arg("--fuzz-dir").arg(root.join(PROGRAMS));
    command.arg("--target-dir").arg(directory(root)?.join("build"));
    command.arg(target).args(inputs).arg("--").arg(format!("-max_len={max_bytes}"));
    Ok(command)
}

fn directory(root: &Path) -> Result<PathBuf> {
    Ok(workspace::target_directory(root)?.join("fuzz"))
}

impl Place {
    fn new(root: &Path, target: &str) -> Result<Self> {
        let directory = directory(root)?;
        let of = |what: &str| directory.join(what).join(target);
        Ok(Self {
            kept: root.join(format!("fuzz/corpus/{target}.txt")),
            inputs: of("inputs"),
            smallest: of("smallest"),
            failures: of("failures"),
        })
    }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("cannot read or write {}: {error}", path.display())
}

/// Makes an empty directory.
fn empty(directory: &Path) -> Result {
    if directory.exists() {
        fs::remove_dir_all(directory).map_err(failed(directory))?;
    }
    fs::create_dir_all(directory).map_err(failed(directory))
}

/// Writes each line of a corpus into a file of its own.
fn unpack(corpus: &str, directory: &Path) -> Result {
    empty(directory)?;
    for (number, line) in (1..).zip(corpus.lines()) {
        let digits = line.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        });
        let bytes: Option<Vec<u8>> = digits.collect();
        let bytes = bytes.ok_or_else(|| format!("line {number} is not hexadecimal: {line}"))?;
        let file = directory.join(format!("{number:05}"));
        fs::write(&file, bytes).map_err(failed(&file))?;
    }
    Ok(())
}

/// Returns the files of a directory as the lines of a corpus, the shortest first.
fn pack(directory: &Path) -> Result<String> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        let bytes = fs::read(&path).map_err(failed(&path))?;
        let mut line = String::with_capacity(2 * bytes.len() + 1);
        for byte in bytes {
            let digit = |half| char::from_digit(half, 16).expect("half a byte");
            line.extend([digit(u32::from(byte >> 4)), digit(u32::from(byte & 15))]);
        }
        line.push('\n');
        lines.push(line);
    }
    lines.sort_unstable_by(|one, other| one.len().cmp(&other.len()).then(one.cmp(other)));
    Ok(lines.concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_packed_as_it_was_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = directory.path().join("inputs");
        for corpus in ["00ff\na01b2c\n", ""] {
            unpack(corpus, &inputs).unwrap();
            assert_eq!(pack(&inputs).unwrap(), corpus);
        }
        assert!(unpack("0g\n", &inputs).unwrap_err().contains("line 1"));
    }

    #[test]
    fn each_target_has_a_program_and_a_corpus() {
        let root = workspace::root();
        for target in TARGETS {
            assert!(root.join(format!("{PROGRAMS}/fuzz_targets/{target}.rs")).is_file());
            let corpus = fs::read_to_string(root.join(format!("fuzz/corpus/{target}.txt")));
            assert!(corpus.unwrap().lines().count() > 50, "{target}");
        }
    }
}
