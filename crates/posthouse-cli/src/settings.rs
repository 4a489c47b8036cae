//! The options of a server. Their sources, each overriding the one before, are the defaults, a
//! file, `--set`, and flags.

mod file;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use clap::Args;
use posthouse::{ConnectionOptions, EndpointOptions, Framing, Listener, OptionsError, Tuning};

use crate::failure::{CommandResult, Failure};

const LISTING: &str = "`posthouse serve --print-config` lists all options";

/// The default address of a server.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9990);

/// The options of a server, from the file of `--config` and from flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    /// The `[[listen]]` sections of the file, or the listeners of the flags.
    pub(crate) listeners: Vec<ListenSettings>,
    /// The options of the endpoint: the `[limits]` section.
    pub(crate) limits: EndpointOptions,
    /// The tuning of the endpoint: the `[tuning]` section.
    pub(crate) tuning: Tuning,
    /// The options of listeners that are not in the file.
    connection: ConnectionOptions,
}

/// The settings of a listener: a `[[listen]]` section.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenSettings {
    pub(crate) address: SocketAddr,
    pub(crate) framing: Framing,
    name: Option<String>,
    dual_stack: bool,
    options: ConnectionOptions,
}

/// The flags of every command that starts an endpoint: how to do the I/O.
#[derive(Debug, Args)]
pub(crate) struct IoFlags {
    /// The I/O backend: auto, uring or readiness (Linux), or iocp (Windows). With auto, it is the
    /// one in the environment variable POSTHOUSE_BACKEND, or else the best one that works here
    #[arg(long)]
    backend: Option<String>,
    /// The layout of connections and I/O workers: pinned (each connection belongs to one worker),
    /// shared (any worker serves any connection), or auto
    #[arg(long)]
    layout: Option<String>,
}

impl IoFlags {
    /// Sets the options for which the user gave a flag, and leaves the others unchanged.
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
    Failure::usage(format!("--{flag} {value}: {error}"))
}

impl Settings {
    /// Reads the options from a file. Returns the defaults if there is no file.
    pub(crate) fn read(file: Option<&Path>) -> CommandResult<Self> {
        let Some(path) = file else { return Ok(Self::default()) };
        let shown = path.display();
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::usage(format!("cannot read the configuration {shown}: {error}; {LISTING}"))
        })?;
        file::parse(&text).map_err(|mistake| Failure::usage(format!("{shown}, {mistake}")))
    }

    /// Sets one option for each `NAME=VALUE`.
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

    /// Sets the option `name` to the value of a flag, if the flag is given.
    pub(crate) fn flag(&mut self, flag: &str, name: &str, value: Option<&str>) -> CommandResult {
        let Some(value) = value else { return Ok(()) };
        self.set(name, value).map_err(|error| wrong_flag(flag, value, &error))
    }

    /// Sets an option by its name, with or without its section: `limits.layout` or `layout`. A
    /// connection option is set for every listener.
    fn set(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let (section, option) = match name.split_once('.') {
            Some((section, option)) => (section, option),
            None if ConnectionOptions::has(name) => ("listen", name),
            None if Tuning::has(name) => ("tuning", name),
            None => ("limits", name),
        };
        match section {
            "listen" => self.set_connections(option, value),
            "limits" => self.limits.set(option, value),
            "tuning" => self.tuning.set(option, value),
            // There is no such section. The error shows the whole name.
            _ => self.limits.set(name, value),
        }
    }

    fn set_connections(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        self.connection.set(name, value)?;
        self.listeners.iter_mut().try_for_each(|listener| listener.options.set(name, value))
    }

    /// Applies the flags of listeners. Addresses replace the listeners of the file; a framing
    /// applies to all listeners. If there is no listener, one is added on the default address.
    pub(crate) fn listen(&mut self, addresses: &[SocketAddr], framing: Option<&Framing>) {
        let addresses = match addresses {
            [] if self.listeners.is_empty() => &[DEFAULT_ADDRESS],
            addresses => addresses,
        };
        if !addresses.is_empty() {
            let options = &self.connection;
            let listener = |address: &SocketAddr| ListenSettings::new(*address, options.clone());
            self.listeners = addresses.iter().map(listener).collect();
        }
        if let Some(framing) = framing {
            self.listeners.iter_mut().for_each(|listener| listener.framing = framing.clone());
        }
    }

    /// Returns all options as TOML in the form of the file, each with a comment that explains it.
    pub(crate) fn to_toml(&self) -> String {
        let listeners: String = self.listeners.iter().map(ListenSettings::to_toml).collect();
        let limits = self.limits.to_toml();
        let tuning = self.tuning.to_toml();
        format!("{listeners}[limits]\n{limits}\n[tuning]\n{tuning}")
    }
}

impl ListenSettings {
    /// Makes a listener with the native framing.
    pub(crate) fn new(address: SocketAddr, options: ConnectionOptions) -> Self {
        Self { address, framing: Framing::Native, name: None, dual_stack: false, options }
    }

    /// Returns the listener for the endpoint.
    pub(crate) fn listener(&self) -> Listener {
        let listener = Listener::new(self.address)
            .framing(self.framing.clone())
            .dual_stack(self.dual_stack)
            .options(self.options.clone());
        match &self.name {
            Some(name) => listener.name(name.as_str()),
            None => listener,
        }
    }

    fn to_toml(&self) -> String {
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let name = match &self.name {
            Some(name) => format!("name = {}", quoted(name)),
            None => "# name = \"devices\"".to_owned(),
        };
        format!(
            "# A listener. The file has one such section for each listener.\n[[listen]]\n\
             # The address to listen on, IP:PORT. With port 0 the system chooses the port.\n\
             address = {}\n\
             # The framing, which divides the stream into messages: native, lines, raw,\n\
             # delimiter:TEXT or length:offset=0,width=4,endian=big,adjust=0,strip=4.\n\
             framing = {}\n\
             # The name of the listener in the log. The default is its address.\n{name}\n\
             # Accept IPv4 peers, too. This is possible only if the address is [::].\n\
             dual_stack = {}\n\
             {}\n",
            quoted(&self.address.to_string()),
            quoted(&self.framing.to_string()),
            self.dual_stack,
            self.options.to_toml(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn flags_replace_the_listeners_of_the_file_and_a_framing_applies_to_all() {
        let file = "[[listen]]\naddress = \"127.0.0.1:1\"\nmax_requests = 7\n\
                    [[listen]]\naddress = \"127.0.0.1:2\"\nframing = \"raw\"\n";
        let mut settings = file::parse(file).unwrap();
        settings.listen(&[], None);
        let framings: Vec<&Framing> = settings.listeners.iter().map(|l| &l.framing).collect();
        assert_eq!(framings, [&Framing::Native, &Framing::Raw]);
        settings.listen(&[], Some(&Framing::Lines));
        assert!(settings.listeners.iter().all(|listener| listener.framing == Framing::Lines));
        assert_eq!(settings.listeners[0].options.max_requests, 7);

        settings.set("listen.max_requests", "8").unwrap();
        settings.listen(&["127.0.0.1:3".parse().unwrap()], None);
        let expected = ConnectionOptions::default().with_max_requests(8);
        let expected = ListenSettings::new("127.0.0.1:3".parse().unwrap(), expected);
        assert_eq!(settings.listeners, [expected]);

        let mut settings = Settings::default();
        settings.listen(&[], None);
        let expected = ListenSettings::new(DEFAULT_ADDRESS, ConnectionOptions::default());
        assert_eq!(settings.listeners, [expected]);
    }

    #[test]
    fn the_printed_file_can_be_read_back() {
        let mut settings = Settings::default();
        let addresses = ["127.0.0.1:7", "[::]:8"].map(|address| address.parse().unwrap());
        settings.listen(&addresses, Some(&"delimiter:\\r\\n\"'".parse().unwrap()));
        settings.listeners[0].name = Some("a \"name\" \\ 'of' \u{1}".to_owned());
        settings.listeners[1].dual_stack = true;
        settings.set("max_frame_bytes", "4096").unwrap();
        settings.set("max_connections", "9").unwrap();
        settings.set("read_mode", "pending").unwrap();
        let read = file::parse(&settings.to_toml()).unwrap();
        assert_eq!(read.listeners, settings.listeners);
        assert_eq!(read.listeners[0].options.max_frame_bytes, 4096);
        assert_eq!((read.limits, read.tuning), (settings.limits, settings.tuning));
    }

    #[test]
    fn no_name_is_in_two_sections_so_that_it_can_be_set_without_its_section() {
        let printed = [
            ConnectionOptions::default().to_toml(),
            EndpointOptions::default().to_toml(),
            Tuning::default().to_toml(),
        ];
        let sections = printed.map(|text| text.parse::<toml::Table>().unwrap());
        let names: BTreeSet<&String> = sections.iter().flat_map(toml::Table::keys).collect();
        assert_eq!(names.len(), sections.iter().map(toml::Table::len).sum::<usize>());
    }

    #[test]
    fn settings_and_flags_say_which_of_them_is_wrong() {
        let mut settings = Settings::default();
        settings.set_all(&["tuning.backlog = 7".into(), "layout=shared".into()]).unwrap();
        assert_eq!(settings.tuning.backlog, 7);
        settings.set_all(&["backlog=8".into(), "limits.io_workers=2".into()]).unwrap();
        assert_eq!((settings.tuning.backlog, settings.limits.io_workers), (8, 2));
        let mut wrong = |setting: &str| {
            let error = settings.set_all(&[setting.to_owned()]).unwrap_err();
            error.to_string()
        };
        assert!(wrong("backlog").starts_with("--set backlog: write NAME=VALUE"));
        for (setting, what) in [
            ("place.backlog=1", "place.backlog: no such option"),
            ("limits.backlog=1", "backlog: no such option"),
            ("listen.address=127.0.0.1:1", "address: no such option"),
            ("colour=red", "colour: no such option"),
            ("listen.max_requests=x", "max_requests = \"x\": must be a whole number"),
        ] {
            let text = wrong(setting);
            assert!(text.starts_with(&format!("--set {setting}: {what}")), "{text}");
        }
        let text = settings.flag("io-workers", "io_workers", Some("99")).unwrap_err().to_string();
        assert_eq!(text, "--io-workers 99: io_workers = 99: must be 0 to 64");
        settings.flag("io-workers", "io_workers", None).unwrap();
    }
}
