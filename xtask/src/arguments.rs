//! The words after a command. Each chore takes what it knows; whatever is left is an error.

use crate::Outcome;

pub(crate) struct Arguments {
    command: &'static str,
    words: Vec<String>,
}

impl Arguments {
    pub(crate) fn new(command: &'static str, words: Vec<String>) -> Self {
        Self { command, words }
    }

    /// Takes the flag `name`; true exactly when it was given.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() < before
    }

    /// Takes `name N` or `name=N`.
    pub(crate) fn number(&mut self, name: &str) -> Outcome<Option<u64>> {
        let joined = format!("{name}=");
        let Some(at) = self.words.iter().position(|w| w == name || w.starts_with(&joined)) else {
            return Ok(None);
        };
        let word = self.words.remove(at);
        let value = match word.strip_prefix(&joined) {
            Some(value) => value.to_owned(),
            None if at < self.words.len() => self.words.remove(at),
            None => return Err(format!("{}: {name} needs a number", self.command)),
        };
        match value.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("{}: {name} needs a number, not `{value}`", self.command)),
        }
    }

    /// Takes the first word that is not an option.
    pub(crate) fn word(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with('-'))?;
        Some(self.words.remove(at))
    }

    /// Refuses what nobody took: a mistyped option must not be ignored.
    pub(crate) fn finish(self) -> Outcome {
        match self.words.first() {
            None => Ok(()),
            Some(word) => {
                Err(format!("{}: `{word}` is not understood; see cargo xtask --help", self.command))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(words: &[&str]) -> Arguments {
        Arguments::new("test", words.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn flags_numbers_and_words_are_taken_in_any_order() {
        let mut given = arguments(&["--seeds", "7", "name", "--ci"]);
        assert!(given.flag("--ci"));
        assert_eq!(given.number("--seeds"), Ok(Some(7)));
        assert_eq!(given.word().as_deref(), Some("name"));
        assert_eq!(given.finish(), Ok(()));
    }

    #[test]
    fn a_number_may_be_joined_with_an_equals_sign() {
        assert_eq!(arguments(&["--seeds=12"]).number("--seeds"), Ok(Some(12)));
    }

    #[test]
    fn a_number_that_is_none_or_missing_is_an_error() {
        assert!(arguments(&["--seeds", "many"]).number("--seeds").is_err());
        assert!(arguments(&["--seeds"]).number("--seeds").is_err());
    }

    #[test]
    fn a_word_nobody_took_is_named() {
        assert!(arguments(&["--sedes", "7"]).finish().unwrap_err().contains("--sedes"));
    }
}
