//! The text form of options: reading TOML, writing TOML with the texts of the options, and setting
//! one option by name.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// An invalid option. The text has the option's name, its value and its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct OptionsError {
    text: String,
}

impl OptionsError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into() }
    }
}

/// A struct of options that the macro `options` declares.
pub(super) trait OptionSet: Serialize + DeserializeOwned {
    /// The name of each option and the lines of its description (its doc comment), in the order of
    /// the fields.
    const TEXTS: &[(&str, &[&str])];

    fn validate(&self) -> Result<(), OptionsError>;
}

/// Converts a value to `u64`, the type in which bounds are compared.
pub(super) fn number(value: impl TryInto<u64>) -> u64 {
    value.try_into().unwrap_or(u64::MAX)
}

pub(super) fn check(name: &str, value: u64, (min, max): (u64, u64)) -> Result<(), OptionsError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(OptionsError::new(format!("{name} = {value}: must be {min} to {max}")))
}

pub(super) fn from_toml<T: OptionSet>(text: &str) -> Result<T, OptionsError> {
    let options: T = toml::from_str(text).map_err(|e| OptionsError::new(e.to_string().trim()))?;
    options.validate()?;
    Ok(options)
}

fn to_table<T: OptionSet>(options: &T) -> toml::Table {
    toml::Table::try_from(options).expect("options are a table")
}

pub(super) fn to_toml<T: OptionSet>(options: &T) -> String {
    let values = to_table(options);
    let mut out = String::new();
    for (name, lines) in T::TEXTS {
        for line in *lines {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let _ = writeln!(out, "{name} = {}", values[*name]);
    }
    out
}

pub(super) fn set<T: OptionSet>(
    options: &mut T,
    name: &str,
    value: &str,
) -> Result<(), OptionsError> {
    let mut table = to_table(options);
    let Some(old) = table.get_mut(name) else {
        return Err(OptionsError::new(format!(
            "{name}: no such option; `posthouse serve --print-config` lists all of them"
        )));
    };
    *old = match old {
        toml::Value::Integer(_) => {
            let number = value.replace('_', "").parse().map_err(|_| {
                OptionsError::new(format!("{name} = {value:?}: must be a whole number"))
            })?;
            toml::Value::Integer(number)
        }
        _ => toml::Value::String(value.to_owned()),
    };
    let changed: T = table
        .try_into()
        .map_err(|e: toml::de::Error| OptionsError::new(format!("{name}: {}", e.message())))?;
    changed.validate()?;
    *options = changed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{ConnectionOptions, EndpointOptions, Tuning};

    #[test]
    fn the_printed_options_can_be_read_back_and_are_complete() {
        let options = EndpointOptions::default().with_max_connections(7);
        let text = options.to_toml();
        assert_eq!(EndpointOptions::from_toml(&text).unwrap(), options);
        for (name, _) in EndpointOptions::TEXTS {
            assert!(text.contains(name), "{name} is missing");
            assert!(EndpointOptions::has(name));
        }
        assert!(!EndpointOptions::has("max_frame_bytes"));
    }

    #[test]
    fn errors_name_the_option_and_its_bounds() {
        let text = |e: OptionsError| e.to_string();
        let error = text(EndpointOptions::from_toml("max_conections = 4").unwrap_err());
        assert!(error.contains("max_conections"), "{error}");
        let error = text(ConnectionOptions::from_toml("max_frame_bytes = 0").unwrap_err());
        assert_eq!(error, "max_frame_bytes = 0: must be 64 to 16777214");
        let error = text(ConnectionOptions::from_toml("heartbeat_ms = 7").unwrap_err());
        assert_eq!(error, "heartbeat_ms = 7: must be 10 to 86400000");
        let error = text(Tuning::default().set("backlog", "0").unwrap_err());
        assert_eq!(error, "backlog = 0: must be 1 to 65535");
        let error = text(Tuning::default().set("queue_low_bytes", "300000").unwrap_err());
        assert_eq!(error, "queue_low_bytes = 300000: must be 0 to 262144");
        let error = text(EndpointOptions::default().set("layout", "round").unwrap_err());
        assert!(error.contains("layout") && error.contains("round"), "{error}");
        let error = text(Tuning::default().set("tuning", "1").unwrap_err());
        assert!(error.contains("no such option"), "{error}");
    }
}
