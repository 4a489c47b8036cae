//! The chores of Posthouse, the same on a developer's machine and in CI: `cargo xtask <command>`.

#![forbid(unsafe_code)]

mod api;
mod bench;
mod crash_test;
mod fuzz;
mod mutants;
mod prerequisites;
mod simulation;
mod steps;
mod stress;
mod test;
mod test_report;
mod tidy;
mod wine;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// The result of a chore: the error is a sentence for the person at the terminal.
type Result<T = (), E = String> = std::result::Result<T, E>;

/// The chores of Posthouse.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", disable_help_subcommand = true, max_term_width = 100)]
enum Chore {
    /// Run formatting, lints, rules, every test, the examples, a simulation campaign
    Test {
        /// Fail if a part is missing on this machine, and test the benchmark as well
        #[arg(long)]
        ci: bool,
        /// Seeds of the simulation campaign
        #[arg(long, default_value_t = test::SEEDS_DEFAULT)]
        seeds: u64,
    },
    /// Run `test --ci`, as the build machine does
    Ci,
    /// Run the tests as Windows programs, under Wine, and the lints for MSVC
    ///
    /// As root on Debian it installs the tools that are missing.
    Wine {
        /// Run the tests only
        #[arg(long)]
        quick: bool,
        /// Run the tests whose names contain one of these words only
        filters: Vec<String>,
    },
    /// Check the rules of the source tree
    Tidy {
        /// Print the rules
        #[arg(long)]
        list: bool,
    },
    /// Compare the public interface of each library crate with its listing, crates/NAME/api.txt
    Api {
        /// Write the listings
        #[arg(long)]
        bless: bool,
    },
    /// Run `posthouse sim`, built in the profile `sim`, with these arguments
    #[command(disable_help_flag = true)]
    Sim {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run many short connections with cancels, resets and half-closes on the real system
    #[command(disable_help_flag = true)]
    Stress {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Send files while the sender, then the receiver, is killed again and again
    #[command(name = "crash_test")]
    CrashTest(crash_test::Settings),
    /// Look for inputs of a peer or a disk that break a promise of the protocol
    ///
    /// It needs cargo-fuzz and a C++ compiler, but no nightly compiler.
    Fuzz(fuzz::Settings),
    /// Apply known mistakes to a copy, one by one, and check that the simulation finds each
    Mutants {
        /// The mistake to apply: the name of a patch in xtask/mutants; by default all
        name: Option<String>,
        /// Seeds to run before a mistake counts as not found
        #[arg(long, default_value_t = mutants::SEEDS_DEFAULT)]
        seeds: u64,
        /// Only check that every patch applies
        #[arg(long)]
        check: bool,
    },
    /// Measure Posthouse next to hand-written servers and other runtimes
    ///
    /// `bench --help` prints the arguments. With --files it compares several ways to send files,
    /// with --siege it attacks an endpoint; `bench --files --help` and `bench --siege --help`
    /// print their arguments.
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Start a Windows program for cargo
    #[command(hide = true)]
    StartUnderWine {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    if let Some(rustdoc) = api::rustdoc_to_stand_in_for() {
        return api::stand_in(&rustdoc, std::env::args_os().skip(1));
    }
    let outcome = match Chore::parse() {
        Chore::Test { ci, seeds } => test::run(ci, seeds),
        Chore::Ci => test::run(true, test::SEEDS_DEFAULT),
        Chore::Wine { quick, filters } => wine::run(quick, &filters),
        Chore::Tidy { list: false } => tidy::run().and_then(|()| mutants::check()),
        Chore::Tidy { list: true } => {
            tidy::list();
            Ok(())
        }
        Chore::Api { bless } => api::run(bless),
        Chore::Sim { arguments } => simulation::run(&arguments),
        Chore::Stress { arguments } => stress::run(&arguments),
        Chore::CrashTest(settings) => crash_test::run(settings),
        Chore::Fuzz(settings) => fuzz::run(&settings),
        Chore::Mutants { check: true, .. } => mutants::check(),
        Chore::Mutants { name, seeds, check: false } => mutants::run(name.as_deref(), seeds),
        Chore::Bench { arguments } => bench::run(&arguments),
        Chore::StartUnderWine { command } => return wine::start::run(&command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            if !message.is_empty() {
                eprintln!("xtask: {message}");
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_other_programs_are_passed_on_as_they_are() {
        let passed = ["--seeds", "7", "--help", "--", "x"];
        for command in ["sim", "stress", "bench"] {
            let words = ["xtask", command].into_iter().chain(passed);
            match Chore::try_parse_from(words) {
                Ok(
                    Chore::Sim { arguments }
                    | Chore::Stress { arguments }
                    | Chore::Bench { arguments },
                ) => assert_eq!(arguments, passed, "{command}"),
                _ => panic!("{command}"),
            }
        }
    }
}
