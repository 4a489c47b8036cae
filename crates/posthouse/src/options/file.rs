//! Options as text: TOML in, TOML with the texts out, and single `key=value` settings.

use std::error::Error;
use std::fmt;
use std::fmt::Write as _;

use super::{Options, Tuning};

/// What is wrong with an option, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionsError {
    text: String,
}

impl OptionsError {
    pub(crate) fn new(text: String) -> Self {
        Self { text }
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for OptionsError {}

impl Options {
    /// Reads options from TOML. What is not mentioned has its default; an unknown name is an
    /// error, and so is a value out of its bounds.
    pub fn from_toml(text: &str) -> Result<Self, OptionsError> {
        let options: Self =
            toml::from_str(text).map_err(|e| OptionsError::new(e.to_string().trim().to_owned()))?;
        options.validate()?;
        Ok(options)
    }

    /// Sets one option from its name and value: `max_connections`, `100`; `tuning.backlog`, `64`.
    ///
    /// ```
    /// let mut options = posthouse::Options::default();
    /// options.set("layout", "shared")?;
    /// options.set("tuning.pending_reads", "4")?;
    /// assert!(options.set("tuning.pending_reads", "99").is_err());
    /// # Ok::<(), posthouse::OptionsError>(())
    /// ```
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionsError> {
        let mut table = toml::Table::try_from(&*self).expect("options are a table");
        let (place, last) = match name.split_once('.') {
            Some(("tuning", last)) => match table.get_mut("tuning") {
                Some(toml::Value::Table(tuning)) => (tuning, last),
                _ => unreachable!("tuning is a table"),
            },
            _ => (&mut table, name),
        };
        let Some(old) = place.get_mut(last).filter(|old| !old.is_table()) else {
            return Err(OptionsError::new(format!(
                "{name}: no such option; `posthouse serve --print-config` lists all of them"
            )));
        };
        *old = match old {
            toml::Value::Integer(_) => {
                value.replace('_', "").parse().map(toml::Value::Integer).map_err(|_| {
                    OptionsError::new(format!("{name} = {value:?}: must be a whole number"))
                })?
            }
            _ => toml::Value::String(value.to_owned()),
        };
        let changed: Self = table
            .try_into()
            .map_err(|e: toml::de::Error| OptionsError::new(format!("{name}: {}", e.message())))?;
        changed.validate()?;
        *self = changed;
        Ok(())
    }

    /// All options as TOML, each with its text as a comment: what `--print-config` prints.
    /// [`from_toml`](Self::from_toml) reads it back.
    pub fn to_toml(&self) -> String {
        let table = toml::Table::try_from(self).expect("options are a table");
        let mut out = String::new();
        write_section(&mut out, Self::TEXTS, &table);
        out.push_str("\n[tuning]\n");
        let tuning = table["tuning"].as_table().expect("tuning is a table");
        write_section(&mut out, Tuning::TEXTS, tuning);
        out
    }
}

fn write_section(out: &mut String, texts: &[(&str, &[&str])], values: &toml::Table) {
    for (name, lines) in texts {
        let value = &values[*name];
        if value.is_table() {
            continue;
        }
        for line in *lines {
            let _ = writeln!(out, "# {}", line.trim());
        }
        let _ = writeln!(out, "{name} = {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_can_be_read_back_and_holds_every_option() {
        let options = Options { max_connections: 7, ..Options::default() };
        let text = options.to_toml();
        assert_eq!(Options::from_toml(&text).unwrap(), options);
        for (name, _) in Options::TEXTS.iter().chain(Tuning::TEXTS) {
            assert!(text.contains(name), "{name} is missing");
        }
    }

    #[test]
    fn errors_name_the_option_and_its_bounds() {
        let text = |e: OptionsError| e.to_string();
        let error = text(Options::from_toml("max_conections = 4").unwrap_err());
        assert!(error.contains("max_conections"), "{error}");
        let error = text(Options::from_toml("max_frame = 0").unwrap_err());
        assert_eq!(error, "max_frame = 0: must be 64 to 16777214");
        let error = text(Options::default().set("tuning.backlog", "0").unwrap_err());
        assert_eq!(error, "tuning.backlog = 0: must be 1 to 65535");
        let error = text(Options::default().set("layout", "round").unwrap_err());
        assert!(error.contains("layout") && error.contains("round"), "{error}");
        let error = text(Options::default().set("tuning", "1").unwrap_err());
        assert!(error.contains("no such option"), "{error}");
    }
}
