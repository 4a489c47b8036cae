//! `posthouse doctor`.

use super::harness::run;

#[test]
fn the_doctor_tells_what_works_and_what_limits() {
    let json = run(["doctor", "--json"]).expect(0).json();
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    let auto = &json["backends"]["auto"];
    assert!(auto["reason"].is_string(), "{json:#}");
    let tried = json["backends"]["tried"].as_array().unwrap();
    for test in tried {
        // A ring belongs to one worker, so uring has no shared layout.
        let impossible = (&test["backend"], &test["layout"]) == (&"uring".into(), &"shared".into());
        assert_eq!(test["works"], !impossible, "{json:#}");
        if impossible {
            let why = test["error"].as_str().unwrap();
            assert!(why.contains("no shared layout") && why.contains("pinned"), "{json:#}");
        }
    }
    assert!(tried.len() >= 2, "{json:#}");
    assert!(tried.iter().any(|test| test["backend"] == auto["backend"]), "{json:#}");
    let found: Vec<_> = json["machine"].as_array().unwrap().iter().collect();
    let limits = if cfg!(windows) {
        &["system", "cores", "local ports"][..]
    } else {
        &["kernel", "cores", "open files", "somaxconn", "local ports", "io_uring"]
    };
    for what in limits {
        assert!(found.iter().any(|finding| finding["what"] == *what), "{what}: {json:#}");
    }
    if cfg!(windows) {
        let system = found.iter().find(|finding| finding["what"] == "system").unwrap();
        let value = system["value"].as_str().unwrap();
        assert!(
            value.starts_with("Windows ") && value.ends_with(|last: char| last.is_ascii_digit()),
            "{value}"
        );
    }
    let text = run(["doctor"]).expect(0).stdout;
    assert!(text.contains("auto takes") && text.contains("This machine"), "{text}");
}
