//! `posthouse sim`.

use super::harness::run;

#[test]
fn simulated_seeds_pass_and_are_the_same_whatever_the_number_of_jobs() {
    let words = ["sim", "--seeds", "5", "--from", "3", "--json"];
    let one = run(words.into_iter().chain(["--jobs", "1"])).expect(0).json();
    let more = run(words.into_iter().chain(["--jobs", "3", "--twice"])).expect(0).json();
    assert_eq!(one["seeds"], 5, "{one:#}");
    assert!(one["messages"].as_u64().unwrap() > 0, "{one:#}");
    assert_eq!(one["failures"].as_array().unwrap().len(), 0, "{one:#}");
    for name in ["fingerprint", "messages", "connections", "operations", "files", "crashes"] {
        assert_eq!(one[name], more[name], "{name}");
    }
    let text = run(["sim", "--seeds", "2"]).expect(0);
    assert!(text.stdout.contains("a second: all contracts hold"), "{text:#?}");
    assert_eq!(text.stderr, "", "faults that were put in are no warnings");
}

#[test]
fn seeds_run_messages_and_some_run_files_or_admission_if_nothing_else_is_said() {
    let run = |from: &str, what: &[&str]| {
        let words = ["sim", "--seeds", "2", "--from", from, "--json"];
        run(words.iter().chain(what)).expect(0).json()
    };
    let attempts = |json: &serde_json::Value| {
        json["files"].as_u64().unwrap() + json["files_failed"].as_u64().unwrap()
    };
    let traffic = ["--what", "traffic"];
    let files = ["--what", "files"];
    assert_eq!(run("1", &[])["fingerprint"], run("1", &traffic)["fingerprint"]);
    assert_eq!(attempts(&run("4", &traffic)), 0);
    assert!(attempts(&run("4", &[])) > 0);
    assert!(attempts(&run("1", &files)) > 0);
    let admission = ["--what", "admission"];
    assert!(run("1", &admission)["connections"].as_u64().unwrap() > 0);
    assert_eq!(run("1", &admission)["messages"], 0);
    assert_ne!(run("2", &[])["fingerprint"], run("2", &traffic)["fingerprint"]);
}

#[test]
fn a_trace_of_one_seed_is_the_same_every_time() {
    let trace = || run(["sim", "--seeds", "1", "--from", "4", "--trace"]).expect(0).stderr;
    let first = trace();
    assert!(first.contains("completion port open"), "{first}");
    assert_eq!(first, trace());
}
