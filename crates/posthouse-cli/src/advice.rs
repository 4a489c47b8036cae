//! Commands to advise, as one gives them on this system.

use std::fmt::Display;

/// Makes a directory, with those above it.
pub(crate) fn make_directory(path: impl Display) -> String {
    // There it makes those above by itself.
    let command = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
    format!("{command} {path}")
}

/// Makes a file with a key in it.
pub(crate) fn make_key(path: impl Display) -> String {
    if cfg!(windows) {
        // No command that every Windows has writes text that is chance, and in one byte a letter.
        format!("write 32 letters and digits into {path} that nobody can guess")
    } else {
        format!("make one with `head -c 32 /dev/urandom | base64 > {path}`")
    }
}

/// A word that a shell might take apart.
pub(crate) fn quoted(word: impl Display) -> String {
    if cfg!(windows) { format!("\"{word}\"") } else { format!("'{word}'") }
}
