//! The options of an endpoint, from their defaults, a file, `--set` and flags, in this order.

use std::fs;
use std::path::Path;

use clap::Args;
use posthouse::Options;

use crate::failure::{CommandResult, Failure};

const LISTING: &str = "`posthouse serve --print-config` lists all options";

/// How the I/O is done: flags of every command that starts an endpoint.
#[derive(Debug, Args)]
pub(crate) struct IoFlags {
    /// Which system does the I/O: auto, or uring or readiness on Linux, iocp on Windows; auto takes
    /// the best that this machine offers, or what the environment variable POSTHOUSE_BACKEND names
    #[arg(long)]
    backend: Option<String>,
    /// How connections and I/O workers come together: auto, pinned or shared
    #[arg(long)]
    layout: Option<String>,
}

impl IoFlags {
    /// Changes the options that the flags stand for, where they are given.
    pub(crate) fn apply(&self, options: &mut Options) -> CommandResult {
        flag(options, "backend", self.backend.as_deref())?;
        flag(options, "layout", self.layout.as_deref())
    }
}

/// The options that a file gives, or the defaults where there is none.
pub(crate) fn read(file: Option<&Path>) -> CommandResult<Options> {
    let Some(path) = file else { return Ok(Options::default()) };
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("cannot read the configuration {shown}: {error}; {LISTING}"))
    })?;
    parse(&text).map_err(|wrong| Failure::usage(format!("{shown}, {wrong}")))
}

/// Changes one option for each `NAME=VALUE`.
pub(crate) fn set(options: &mut Options, settings: &[String]) -> CommandResult {
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or_else(|| {
            Failure::usage(format!("--set {setting}: write NAME=VALUE; {LISTING}"))
        })?;
        options
            .set(name.trim(), value.trim())
            .map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
    }
    Ok(())
}

/// Changes the option that a flag stands for, where the flag is given.
pub(crate) fn flag(options: &mut Options, name: &str, value: Option<&str>) -> CommandResult {
    let Some(value) = value else { return Ok(()) };
    options
        .set(name, value)
        .map_err(|error| Failure::usage(format!("--{} {value}: {error}", name.replace('_', "-"))))
}

/// What is wrong comes with the line where it is.
fn parse(text: &str) -> Result<Options, String> {
    let options: Options = toml::from_str(text).map_err(|error| {
        let what = error.message();
        let what = match what.split_once(", expected one of") {
            Some((unknown, _)) if unknown.starts_with("unknown field") => {
                format!("{unknown}; {LISTING}")
            }
            _ => what.to_owned(),
        };
        match error.span() {
            Some(span) => at_line(text, text[..span.start].matches('\n').count(), &what),
            None => what,
        }
    })?;
    options.validate().map_err(|error| {
        let what = error.to_string();
        let name = what.split(' ').next().unwrap_or_default();
        let last = name.rsplit('.').next().unwrap_or_default();
        match text.lines().position(|line| sets(line, last)) {
            Some(number) => at_line(text, number, &what),
            None => what,
        }
    })?;
    Ok(options)
}

fn sets(line: &str, name: &str) -> bool {
    let rest = line.trim_start().strip_prefix(name);
    rest.is_some_and(|rest| rest.trim_start().starts_with('='))
}

fn at_line(text: &str, number: usize, what: &str) -> String {
    let line = text.lines().nth(number).unwrap_or_default().trim();
    format!("line {} ({line}): {what}", number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn an_unknown_option_is_named_with_its_line_and_where_to_look() {
        let text = wrong("layout = \"shared\"\n\nmax_conections = 4\n");
        let expected = "line 3 (max_conections = 4): unknown field `max_conections`; ";
        assert_eq!(text, format!("{expected}{LISTING}"));
    }

    #[test]
    fn a_value_of_the_wrong_type_or_choice_is_shown_in_its_line() {
        let text = wrong("max_frame = \"big\"");
        assert!(text.starts_with("line 1 (max_frame = \"big\"): invalid type"), "{text}");
        let text = wrong("\nlayout = \"round\"");
        assert!(text.starts_with("line 2 (layout = \"round\"): unknown variant"), "{text}");
        assert!(text.contains("pinned"), "{text}");
        let text = wrong("a b");
        assert!(text.starts_with("line 1 (a b): "), "{text}");
    }

    #[test]
    fn a_value_out_of_its_bounds_is_found_in_the_file() {
        let text = wrong("io_workers = 1\n[tuning]\n  backlog = 0\n");
        assert_eq!(text, "line 3 (backlog = 0): tuning.backlog = 0: must be 1 to 65535");
    }

    #[test]
    fn a_bound_broken_by_a_default_has_no_line_but_its_name() {
        let text = wrong("send_queue_bytes = 1000");
        assert!(text.starts_with("tuning.queue_high_bytes = "), "{text}");
    }

    #[test]
    fn settings_and_flags_say_which_of_them_is_wrong() {
        let mut options = Options::default();
        set(&mut options, &["tuning.backlog = 7".into(), "layout=shared".into()]).unwrap();
        assert_eq!(options.tuning.backlog, 7);
        let text = set(&mut options, &["backlog".into()]).unwrap_err().to_string();
        assert!(text.starts_with("--set backlog: write NAME=VALUE"), "{text}");
        let text = flag(&mut options, "io_workers", Some("99")).unwrap_err().to_string();
        assert_eq!(text, "--io-workers 99: io_workers = 99: must be 0 to 64");
        flag(&mut options, "io_workers", None).unwrap();
    }
}
