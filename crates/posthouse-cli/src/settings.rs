//! The options of an endpoint and of its listeners, from their defaults, a file, `--set` and flags,
//! in this order.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use clap::Args;
use posthouse::{ConnectionOptions, EndpointOptions, Framing, OptionsError, Tuning};
use serde::Deserialize;

use crate::failure::{CommandResult, Failure};

const LISTING: &str = "`posthouse serve --print-config` lists all options";

/// All options of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// The `[[listen]]` sections of the file.
    pub(crate) listeners: Vec<ListenSettings>,
    pub(crate) limits: EndpointOptions,
    pub(crate) tuning: Tuning,
    /// The options of listeners that no file names.
    connection: ConnectionOptions,
}

/// A `[[listen]]` section.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenSettings {
    pub(crate) address: SocketAddr,
    pub(crate) framing: Framing,
    pub(crate) name: Option<String>,
    pub(crate) dual_stack: bool,
    pub(crate) options: ConnectionOptions,
}

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
    pub(crate) fn apply(&self, options: &mut EndpointOptions) -> CommandResult {
        for (name, value) in [("backend", &self.backend), ("layout", &self.layout)] {
            if let Some(value) = value {
                options.set(name, value).map_err(|error| wrong_flag(name, value, &error))?;
            }
        }
        Ok(())
    }
}

fn wrong_flag(flag: &str, value: &str, error: &OptionsError) -> Failure {
    Failure::usage(format!("--{} {value}: {error}", flag.replace('_', "-")))
}

impl Settings {
    /// Reads the options of a file, or gives the defaults without one.
    pub(crate) fn read(file: Option<&Path>) -> CommandResult<Self> {
        let Some(path) = file else { return Ok(Self::default()) };
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the configuration {shown}: {error}; {LISTING}"))
        })?;
        parse(&text).map_err(|wrong| Failure::usage(format!("{shown}, {wrong}")))
    }

    /// Changes one option for each `NAME=VALUE`.
    pub(crate) fn set_all(&mut self, settings: &[String]) -> CommandResult {
        for setting in settings {
            let (name, value) = setting.split_once('=').ok_or_else(|| {
                Failure::usage(format!("--set {setting}: write NAME=VALUE; {LISTING}"))
            })?;
            self.set(name.trim(), value.trim())
                .map_err(|error| Failure::usage(format!("--set {setting}: {error}")))?;
        }
        Ok(())
    }

    /// Changes the option `name` to which a flag's value goes, if the flag is given.
    pub(crate) fn flag(&mut self, flag: &str, name: &str, value: Option<&str>) -> CommandResult {
        let Some(value) = value else { return Ok(()) };
        self.set(name, value).map_err(|error| wrong_flag(flag, value, &error))
    }

    /// Sets an option by its name, with or without its section: `limits.layout`, `layout`. An
    /// option of connections is set for every listener.
    fn set(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let (section, last) = match name.split_once('.') {
            Some((section, last)) => (Some(section), last),
            None => (None, name),
        };
        match section {
            Some("tuning") => self.tuning.set(last, value),
            None if Tuning::has(last) => self.tuning.set(last, value),
            Some("listen") => self.set_connections(last, value),
            None if ConnectionOptions::has(last) => self.set_connections(last, value),
            Some("limits") | None => self.limits.set(last, value),
            // The error names the whole of it.
            Some(_) => self.limits.set(name, value),
        }
    }

    fn set_connections(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        self.connection.set(name, value)?;
        self.listeners.iter_mut().try_for_each(|listener| listener.options.set(name, value))
    }

    /// Puts the listeners of flags in the place of the file's.
    pub(crate) fn listen(&mut self, addresses: &[SocketAddr], framing: Option<&Framing>) {
        if !addresses.is_empty() {
            let listener = |address: &SocketAddr| ListenSettings::new(*address, &self.connection);
            self.listeners = addresses.iter().map(listener).collect();
        }
        if let Some(framing) = framing {
            self.listeners.iter_mut().for_each(|l| l.framing = framing.clone());
        }
    }

    /// Returns all options as TOML, each with its text as a comment: the form of the file.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        for listener in &self.listeners {
            out.push_str(&listener.to_toml());
        }
        out.push_str("[limits]\n");
        out.push_str(&self.limits.to_toml());
        out.push_str("\n[tuning]\n");
        out.push_str(&self.tuning.to_toml());
        out
    }
}

impl ListenSettings {
    fn new(address: SocketAddr, options: &ConnectionOptions) -> Self {
        let (framing, options) = (Framing::Native, options.clone());
        Self { address, framing, name: None, dual_stack: false, options }
    }

    /// Takes a `[[listen]]` table. The error names the key.
    fn from_table(mut table: toml::Table) -> Result<Self, (String, String)> {
        let at = |key: &str, error: &dyn std::fmt::Display| (key.to_owned(), error.to_string());
        let mut text = |key: &str| match table.remove(key) {
            None => Ok(None),
            Some(toml::Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(at(key, &format!("{key}: must be a string"))),
        };
        let address = text("address")?
            .ok_or_else(|| at("address", &"address is missing: write address = \"IP:PORT\""))?;
        let (framing, name) = (text("framing")?, text("name")?);
        let address = crate::address::parse_listen_address(&address)
            .map_err(|error| at("address", &error))?;
        let mut listener = Self::new(address, &ConnectionOptions::default());
        listener.name = name;
        if let Some(framing) = framing {
            listener.framing = framing.parse().map_err(|error| at("framing", &error))?;
        }
        match table.remove("dual_stack") {
            None => {}
            Some(toml::Value::Boolean(dual_stack)) => listener.dual_stack = dual_stack,
            Some(_) => return Err(at("dual_stack", &"dual_stack: must be true or false")),
        }
        for (key, value) in table {
            if !ConnectionOptions::has(&key) {
                return Err(at(&key, &format!("unknown field `{key}`; {LISTING}")));
            }
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            listener.options.set(&key, &value).map_err(|error| at(&key, &error))?;
        }
        Ok(listener)
    }

    fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let name = match &self.name {
            Some(name) => format!("name = {}", quoted(name)),
            None => "# name = \"devices\"".to_owned(),
        };
        format!(
            "# A listener; one section for each.\n[[listen]]\n\
             # Where to listen, IP:PORT. Port 0: the system chooses.\naddress = {}\n\
             # How messages are cut out of the stream: native, lines, raw, delimiter:TEXT or\n\
             # length:offset=0,width=4,endian=big,adjust=0,strip=4.\nframing = {}\n\
             # Its name in the log. Default: its address.\n{name}\n\
             # Whether IPv4 peers come in by an IPv6 address, too ([::] only).\ndual_stack = {}\n\
             {}\n",
            quoted(&self.address.to_string()),
            quoted(&self.framing.to_string()),
            self.dual_stack,
            self.options.to_toml(),
        )
    }
}

/// The configuration file.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct File {
    listen: Vec<toml::Table>,
    limits: EndpointOptions,
    tuning: Tuning,
}

/// Reads a file's text. The error has the line with the mistake.
fn parse(text: &str) -> Result<Settings, String> {
    let File { listen, limits, tuning } = toml::from_str(text).map_err(|error| {
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
    let in_section = |section: &str, number: usize, name: &str, what: String| {
        match line_of(text, section, number, name) {
            Some(line) => at_line(text, line, &what),
            None => what,
        }
    };
    let invalid = |section: &str, error: &OptionsError| {
        let what = error.to_string();
        let name = what.split(' ').next().unwrap_or_default().to_owned();
        in_section(section, 0, &name, format!("{section}.{what}"))
    };
    limits.validate().map_err(|error| invalid("limits", &error))?;
    tuning.validate().map_err(|error| invalid("tuning", &error))?;
    let listener = |(number, table)| {
        ListenSettings::from_table(table)
            .map_err(|(key, what)| in_section("listen", number, &key, format!("listen.{what}")))
    };
    let listeners = listen.into_iter().enumerate().map(listener).collect::<Result<_, _>>()?;
    Ok(Settings { listeners, limits, tuning, connection: ConnectionOptions::default() })
}

/// Finds the line that sets `name` in the section of this name with this number.
fn line_of(text: &str, section: &str, number: usize, name: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
    let headers = [format!("[{section}]"), format!("[[{section}]]")];
    let is_header = |line: &&str| headers.iter().any(|header| line.starts_with(&**header));
    let begins = (0..lines.len()).filter(|n| is_header(&lines[*n])).nth(number)?;
    let rest = lines.iter().enumerate().skip(begins + 1);
    let mut section = rest.take_while(|(_, line)| !line.starts_with('['));
    section.find(|(_, line)| sets(line, name)).map(|(at, _)| at)
}

fn sets(line: &str, name: &str) -> bool {
    let rest = line.strip_prefix(name);
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
        let text = wrong("[limits]\nlayout = \"shared\"\n\nmax_conections = 4\n");
        let expected = "line 4 (max_conections = 4): unknown field `max_conections`; ";
        assert_eq!(text, format!("{expected}{LISTING}"));
        let text = wrong("[[listen]]\naddress = \"127.0.0.1:0\"\nmax_fram = 4\n");
        let expected = "line 3 (max_fram = 4): listen.unknown field `max_fram`; ";
        assert_eq!(text, format!("{expected}{LISTING}"));
        let text = wrong("max_connections = 4\n");
        assert!(text.starts_with("line 1 (max_connections = 4): unknown field"), "{text}");
    }

    #[test]
    fn a_value_of_the_wrong_type_or_choice_is_shown_in_its_line() {
        let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
        let text = wrong(&format!("{listen}max_frame_bytes = \"big\""));
        assert!(text.starts_with("line 3 (max_frame_bytes = \"big\"): "), "{text}");
        let text = wrong("\n[limits]\nlayout = \"round\"");
        assert!(text.starts_with("line 3 (layout = \"round\"): unknown variant"), "{text}");
        assert!(text.contains("pinned"), "{text}");
        let text = wrong("a b");
        assert!(text.starts_with("line 1 (a b): "), "{text}");
        let text = wrong("[[listen]]\naddress = \"nowhere\"");
        assert!(text.starts_with("line 2 (address = \"nowhere\"): "), "{text}");
        assert!(wrong("[[listen]]").contains("address is missing"));
    }

    #[test]
    fn a_value_out_of_its_bounds_is_found_in_the_file() {
        let text = wrong("[limits]\nio_workers = 1\n[tuning]\n  backlog = 0\n");
        assert_eq!(text, "line 4 (backlog = 0): tuning.backlog = 0: must be 1 to 65535");
        let two = "[[listen]]\naddress = \"127.0.0.1:1\"\nmax_requests = 1\n\
                   [[listen]]\naddress = \"127.0.0.1:2\"\nmax_requests = 9_000_000\n";
        let text = wrong(two);
        assert!(text.starts_with("line 6 (max_requests = 9_000_000): listen.max_requests"), "{text}");
    }

    #[test]
    fn a_bound_broken_by_a_default_has_no_line_but_its_name() {
        let text = wrong("[tuning]\nqueue_high_bytes = 1000");
        assert!(text.starts_with("tuning.queue_low_bytes = "), "{text}");
    }

    #[test]
    fn the_printed_file_can_be_read_back() {
        let mut settings = Settings::default();
        settings.listen(&["127.0.0.1:7".parse().unwrap()], Some(&Framing::Lines));
        settings.set("max_frame_bytes", "4096").unwrap();
        settings.set("max_connections", "9").unwrap();
        let read = parse(&settings.to_toml()).unwrap();
        assert_eq!(read.listeners, settings.listeners);
        assert_eq!(read.listeners[0].options.max_frame_bytes, 4096);
        assert_eq!((read.limits, read.tuning), (settings.limits, settings.tuning));
    }

    #[test]
    fn settings_and_flags_say_which_of_them_is_wrong() {
        let mut settings = Settings::default();
        settings.set_all(&["tuning.backlog = 7".into(), "layout=shared".into()]).unwrap();
        assert_eq!(settings.tuning.backlog, 7);
        settings.set_all(&["backlog=8".into(), "limits.io_workers=2".into()]).unwrap();
        assert_eq!((settings.tuning.backlog, settings.limits.io_workers), (8, 2));
        let text = settings.set_all(&["backlog".into()]).unwrap_err().to_string();
        assert!(text.starts_with("--set backlog: write NAME=VALUE"), "{text}");
        let text = settings.set_all(&["place.backlog=1".into()]).unwrap_err().to_string();
        assert!(text.contains("place.backlog: no such option"), "{text}");
        let wrong = settings.flag("io_workers", "io_workers", Some("99"));
        let text = wrong.unwrap_err().to_string();
        assert_eq!(text, "--io-workers 99: io_workers = 99: must be 0 to 64");
        settings.flag("io_workers", "io_workers", None).unwrap();
    }
}
