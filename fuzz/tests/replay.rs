//! The kept inputs of the fuzzer, and some thousand random ones: none breaks a promise.

use posthouse_fuzz::{TARGETS, random_input, target};

/// The random inputs of a target.
const RANDOM_INPUTS: u64 = 4000;

/// Returns the bytes of a line of a corpus.
fn from_hex(line: &str) -> Vec<u8> {
    let digits: Vec<u32> = line.chars().map(|c| c.to_digit(16).expect("a digit")).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

fn to_hex(input: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte");
    input.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Replays all inputs. If one fails, its line is printed: add it to the corpus.
fn replay(name: &str) {
    let target = target(name);
    let kept = target.corpus.lines().map(from_hex);
    for input in kept.chain((0..RANDOM_INPUTS).map(random_input)) {
        let run = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(run.is_ok(), "the {name} breaks a promise with the input {}", to_hex(&input));
    }
}

#[test]
fn a_session_keeps_its_promises_to_any_peer() {
    replay("session");
}

#[test]
fn a_sender_keeps_its_promises_to_any_receiver() {
    replay("sender");
}

#[test]
fn a_receiver_keeps_its_promises_to_any_sender() {
    replay("receiver");
}

/// Each program of the fuzzer runs the target that has its name.
#[test]
fn a_program_runs_the_target_of_its_name() {
    let programs = concat!(env!("CARGO_MANIFEST_DIR"), "/libfuzzer/fuzz_targets");
    let mut names: Vec<String> = Vec::new();
    for file in std::fs::read_dir(programs).expect("the programs are there") {
        let path = file.expect("a program").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        let text = std::fs::read_to_string(&path).expect("the text of a program");
        assert!(text.contains(&format!("posthouse_fuzz::run(\"{name}\", bytes)")), "{text}");
        assert_eq!(target(&name).name, name);
        names.push(name);
    }
    names.sort_unstable();
    let mut targets = TARGETS.map(|target| target.name);
    targets.sort_unstable();
    assert_eq!(names, targets);
}
