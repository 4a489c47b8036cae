//! The commands that messages suggest, in the form for this system.

use std::fmt::Display;

/// Returns the command that creates a directory and its missing parents.
pub(crate) fn make_directory(path: impl Display) -> String {
    // On Windows mkdir creates missing parents by itself.
    let command = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
    format!("{command} {path}")
}

/// Returns the advice how to create a key file.
pub(crate) fn make_key(path: impl Display) -> String {
    if cfg!(windows) {
        // Not every Windows has a command that writes random text with one byte a letter.
        format!("write 32 random letters and digits into {path}")
    } else {
        format!("make one with `(umask 077; head -c 32 /dev/urandom | base64 > {path})`")
    }
}

/// Puts a word in quotes, because a shell might split it.
pub(crate) fn quoted(word: impl Display) -> String {
    if cfg!(windows) { format!("\"{word}\"") } else { format!("'{word}'") }
}
