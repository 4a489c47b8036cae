//! Commands that messages suggest, in the form that this system takes.

use std::fmt::Display;

/// The command that creates a directory and its missing parents.
pub(crate) fn make_directory(path: impl Display) -> String {
    // On Windows mkdir creates missing parents by itself.
    let command = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
    format!("{command} {path}")
}

/// The way to create a key file.
pub(crate) fn make_key(path: impl Display) -> String {
    if cfg!(windows) {
        // No command that every Windows has writes random text with one byte a letter.
        format!("write 32 random letters and digits into {path}")
    } else {
        format!("make one with `head -c 32 /dev/urandom | base64 > {path}`")
    }
}

/// A word in quotes, because a shell might split it.
pub(crate) fn quoted(word: impl Display) -> String {
    if cfg!(windows) { format!("\"{word}\"") } else { format!("'{word}'") }
}
