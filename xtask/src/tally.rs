//! How many tests a runner says it ran, read from its output.

/// Tests counted over all runners of one `cargo xtask test`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Adds what `line` reports, if it is a summary of nextest or of `cargo test`. Each has its
    /// column: further in stands what a failed test said, which may look the same.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colours(line);
        let summary = if line.starts_with("test result:") {
            line.as_str()
        } else if line.starts_with("     Summary [") {
            // Up to the colon stands how many ran; `(2 slow)` repeats what `passed` already counts.
            line.split_once(':').map_or("", |(_, counts)| counts)
        } else {
            return;
        };
        for count in summary.split([',', ';', '.', '(']) {
            let words: Vec<&str> = count.split_whitespace().collect();
            let [number, what @ ..] = words.as_slice() else { continue };
            let Ok(number) = number.trim_end_matches(')').parse::<u64>() else { continue };
            match what.join(" ").trim_end_matches(')') {
                "passed" => self.passed += number,
                "failed" | "timed out" | "exec failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

/// `line` without the escape sequences that colour a terminal.
fn without_colours(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, text)| text);
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.read(line));
        tally
    }

    #[test]
    fn the_summary_of_nextest_is_counted() {
        let output = "
     Summary [   1.5s] 120 tests run: 117 passed (2 slow, 1 leaky), 1 failed, 2 timed out, 3 skipped
        FAIL [   0.006s] posthouse a_test_that_says 7 passed
    test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 77 filtered out
         Summary [   0.1s] 1 tests run: 0 passed, 1 failed";
        assert_eq!(tally(output), Tally { passed: 117, failed: 3 });
    }

    #[test]
    fn a_cancelled_run_of_nextest_counts_what_ran() {
        let output = "     Summary [   0.1s] 5/12 tests run: 4 passed, 1 failed, 7 skipped";
        assert_eq!(tally(output), Tally { passed: 4, failed: 1 });
    }

    #[test]
    fn every_summary_of_cargo_test_is_added() {
        let output = "running 2 tests
test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 3 passed; 1 failed; 5 ignored; 0 measured; 0 filtered out; finished in 1s";
        assert_eq!(tally(output), Tally { passed: 5, failed: 1 });
    }

    #[test]
    fn colours_do_not_hide_a_summary() {
        let output = "\u{1b}[31;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m2\u{1b}[0m tests run: \
                      \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, \u{1b}[1m1\u{1b}[0m failed";
        assert_eq!(tally(output), Tally { passed: 1, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        assert_eq!(tally("test peers::passed ... ok\n3 passed"), Tally::default());
    }
}
