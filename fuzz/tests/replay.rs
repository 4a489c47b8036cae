//! The kept inputs of the fuzzer, and some thousand random ones: none breaks a promise.

use posthouse_fuzz::{TARGETS, Target, random_input};

/// The random inputs of a target.
const RANDOM_INPUTS: u64 = 4000;

fn target(name: &str) -> Target {
    *TARGETS.iter().find(|target| target.name == name).expect("a target")
}

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
