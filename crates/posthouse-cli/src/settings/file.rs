//! The parser of the configuration file. An error names the line with the mistake.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use posthouse::{ConnectionOptions, EndpointOptions, Framing, OptionsError, Tuning};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{LISTING, ListenSettings, Settings};
use crate::address::parse_listen_address;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    listen: Vec<Spanned<Section>>,
    limits: Section,
    tuning: Section,
}

/// A section: its values by their keys, each key with its place in the text.
type Section = BTreeMap<Spanned<String>, toml::Value>;

/// The keys of a `[[listen]]` section that are not connection options.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListenKeys {
    #[serde(deserialize_with = "listen_address")]
    address: Option<SocketAddr>,
    #[serde(deserialize_with = "framing")]
    framing: Framing,
    name: Option<String>,
    dual_stack: bool,
}

fn listen_address<'de, D: Deserializer<'de>>(value: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(value)?;
    parse_listen_address(&text).map(Some).map_err(D::Error::custom)
}

fn framing<'de, D: Deserializer<'de>>(value: D) -> Result<Framing, D::Error> {
    String::deserialize(value)?.parse().map_err(D::Error::custom)
}

/// A mistake in a file.
struct Mistake {
    /// The position of a byte in the line of the mistake, if there is such a line.
    place: Option<usize>,
    what: String,
}

impl Mistake {
    fn new(place: Option<usize>, error: &toml::de::Error) -> Self {
        let what = error.message();
        let what = match what.split_once(", expected ") {
            Some((unknown, _)) if unknown.starts_with("unknown field") => {
                format!("{unknown}; {LISTING}")
            }
            _ => what.to_owned(),
        };
        Self { place, what }
    }

    /// Returns the description, preceded by the number and the text of the line.
    fn located(self, text: &str) -> String {
        let Some(place) = self.place else { return self.what };
        let number = text[..place].matches('\n').count();
        let line = text.lines().nth(number).unwrap_or_default().trim();
        format!("line {} ({line}): {}", number + 1, self.what)
    }
}

/// Parses the text of a file. The error has the line with the mistake.
pub(super) fn parse(text: &str) -> Result<Settings, String> {
    let file = toml::from_str(text)
        .map_err(|error| Mistake::new(error.span().map(|span| span.start), &error));
    file.and_then(settings).map_err(|mistake| mistake.located(text))
}

fn settings(File { listen, limits, tuning }: File) -> Result<Settings, Mistake> {
    Ok(Settings {
        listeners: listen.into_iter().map(listener).collect::<Result<_, _>>()?,
        limits: options("limits", &limits, EndpointOptions::validate)?,
        tuning: options("tuning", &tuning, Tuning::validate)?,
        connection: ConnectionOptions::default(),
    })
}

fn listener(section: Spanned<Section>) -> Result<ListenSettings, Mistake> {
    let place = section.span().start;
    let (of_connections, keys): (Section, Section) =
        section.into_inner().into_iter().partition(|(key, _)| ConnectionOptions::has(key.as_ref()));
    let ListenKeys { address, framing, name, dual_stack } = typed(&keys)?;
    let address = address.ok_or_else(|| Mistake {
        place: Some(place),
        what: "the address is missing: write address = \"IP:PORT\"".to_owned(),
    })?;
    let options = options("listen", &of_connections, ConnectionOptions::validate)?;
    Ok(ListenSettings { address, framing, name, dual_stack, options })
}

/// Converts a section of options and checks their bounds.
fn options<T: DeserializeOwned>(
    section_name: &str,
    section: &Section,
    validate: impl FnOnce(&T) -> Result<(), OptionsError>,
) -> Result<T, Mistake> {
    let options = typed(section)?;
    validate(&options).map_err(|error| {
        let what = error.to_string();
        // The text begins with the name of the option. An option that is not in the file has no
        // line.
        let name = what.split(' ').next().unwrap_or_default();
        let key = section.keys().find(|key| key.as_ref() == name);
        Mistake { place: key.map(|key| key.span().start), what: format!("{section_name}.{what}") }
    })?;
    Ok(options)
}

/// Converts a section to a type in which every field has a default. Each key is first converted
/// alone, because an error about a whole table does not say where it is.
fn typed<T: DeserializeOwned>(section: &Section) -> Result<T, Mistake> {
    let mut whole = toml::Table::new();
    for (key, value) in section {
        let alone = toml::Table::from_iter([(key.get_ref().clone(), value.clone())]);
        alone.try_into::<T>().map_err(|error| Mistake::new(Some(key.span().start), &error))?;
        whole.insert(key.get_ref().clone(), value.clone());
    }
    whole.try_into().map_err(|error| Mistake::new(None, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        parse(text).unwrap_err()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_where_to_look() {
        for (text, line, key) in [
            ("[limits]\nlayout = \"shared\"\n\nmax_conections = 4\n", 4, "max_conections = 4"),
            ("[tuning]\nbacklogs = 4\n", 2, "backlogs = 4"),
            ("[[listen]]\naddress = \"127.0.0.1:0\"\nmax_framez = 4\n", 3, "max_framez = 4"),
            ("max_connections = 4\n", 1, "max_connections = 4"),
            ("[limits]\nbacklog = 4\n", 2, "backlog = 4"),
        ] {
            let name = key.split(' ').next().unwrap();
            let expected = format!("line {line} ({key}): unknown field `{name}`; {LISTING}");
            assert_eq!(wrong(text), expected);
        }
        let text = wrong("\n[limit]\n");
        assert_eq!(text, format!("line 2 ([limit]): unknown field `limit`; {LISTING}"));
    }

    #[test]
    fn a_value_of_the_wrong_type_or_choice_is_shown_in_its_line() {
        let listen = "[[listen]]\naddress = \"127.0.0.1:0\"\n";
        for (line, parts) in [
            ("max_frame_bytes = \"4096\"", ["invalid type", "4096"]),
            ("max_frame_bytes = -1", ["invalid value", "-1"]),
            ("hello = \"never\"", ["unknown variant `never`", "required"]),
            ("framing = \"morse\"", ["morse", "write native, lines"]),
            ("name = 7", ["invalid type", "string"]),
            ("dual_stack = \"yes\"", ["invalid type", "boolean"]),
        ] {
            let text = wrong(&format!("{listen}{line}"));
            assert!(text.starts_with(&format!("line 3 ({line}): ")), "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{text}");
        }
        let text = wrong("\n[limits]\nlayout = \"round\"");
        assert!(text.starts_with("line 3 (layout = \"round\"): unknown variant"), "{text}");
        assert!(text.contains("pinned"), "{text}");
        let text = wrong("a b");
        assert!(text.starts_with("line 1 (a b): "), "{text}");
        let text = wrong("[[listen]]\naddress = \"nowhere\"");
        assert!(text.starts_with("line 2 (address = \"nowhere\"): write IP:PORT"), "{text}");
    }

    #[test]
    fn a_listener_needs_an_address_and_nothing_else() {
        let text = wrong("\n[[listen]]\nname = \"devices\"\n");
        assert_eq!(
            text,
            "line 2 ([[listen]]): the address is missing: write address = \"IP:PORT\""
        );
        let address = "[::1]:7".parse().unwrap();
        let expected = ListenSettings::new(address, ConnectionOptions::default());
        let read = parse("listen = [{ address = \"[::1]:7\" }]").unwrap();
        assert_eq!(read.listeners, [expected]);
        assert_eq!(parse("").unwrap(), Settings::default());
    }

    #[test]
    fn a_value_out_of_its_bounds_is_found_in_the_file() {
        let text = wrong("[limits]\nio_workers = 1\n[tuning]\n  backlog = 0\n");
        assert_eq!(text, "line 4 (backlog = 0): tuning.backlog = 0: must be 1 to 65535");
        let two = "[[listen]]\naddress = \"127.0.0.1:1\"\nmax_requests = 1\n\
                   [[listen]]\naddress = \"127.0.0.1:2\"\nmax_requests = 9_000_000\n";
        let text = wrong(two);
        let expected = "line 6 (max_requests = 9_000_000): listen.max_requests = 9000000: ";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn a_bound_broken_by_a_default_has_no_line_but_its_name() {
        let text = wrong("[tuning]\nqueue_high_bytes = 1000");
        assert_eq!(text, "tuning.queue_low_bytes = 65536: must be 0 to 1000");
        let both = "[tuning]\nqueue_high_bytes = 1000\nqueue_low_bytes = 500";
        assert_eq!(parse(both).unwrap().tuning.queue_low_bytes, 500);
    }
}
