//! The tools that build for Windows and run the result on this machine: found, or installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Result, prerequisites, workspace};

/// The path of the standard library's source in the sysroot of a compiler.
const STD_SOURCE: &str = "lib/rustlib/src/rust/library/std";
/// The path of Debian's compiler, which may not be the first on the search path.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The path of Debian's 64-bit Wine, which is not on the search path.
const DEBIAN_WINE: &str = "/usr/lib/wine/wine64";
/// The packages of Debian 12 with all tools. `rust-web` is the newer Rust with which Debian builds
/// its browsers.
const PACKAGES: [&str; 6] =
    ["rustc-web", "rust-web-src", "rust-web-clippy", "gcc-mingw-w64-x86-64", "wine", "wine64"];

/// The paths of the tools.
pub(super) struct Tools {
    /// A compiler with the source of its own standard library.
    pub(super) rustc: PathBuf,
    pub(super) gcc: PathBuf,
    pub(super) wine: PathBuf,
    pub(super) wineserver: PathBuf,
}

impl Tools {
    /// Returns the tools of this machine.
    ///
    /// # Errors
    ///
    /// The names of all missing tools.
    pub(super) fn found() -> Result<Self, Vec<&'static str>> {
        let mut missing = Vec::new();
        let mut need = |found: Option<PathBuf>, what| {
            found.unwrap_or_else(|| {
                missing.push(what);
                PathBuf::new()
            })
        };
        let tools = Self {
            rustc: need(rustc_with_source(), "a rustc with the source of its std"),
            gcc: need(on_path("x86_64-w64-mingw32-gcc"), "gcc for Windows (mingw-w64)"),
            wine: need(wine(), "64-bit Wine"),
            wineserver: need(on_path("wineserver"), "wineserver"),
        };
        let clippy_driver = tools.clippy_driver();
        if tools.rustc.is_file() && !clippy_driver.is_file() {
            missing.push("clippy-driver beside that rustc");
        }
        // nextest ends a test that hangs, which happens under Wine more often than elsewhere.
        if !prerequisites::nextest_is_present() {
            missing.push("cargo-nextest (cargo install --locked cargo-nextest)");
        }
        if missing.is_empty() { Ok(tools) } else { Err(missing) }
    }

    /// Returns the tools of this machine; as root on Debian it installs missing ones.
    pub(super) fn found_or_installed() -> Result<Self> {
        let missing = match Self::found() {
            Ok(tools) => return Ok(tools),
            Err(missing) => missing,
        };
        if !is_root() || on_path("apt-get").is_none() {
            return Err(format!("missing: {}. {}", missing.join(", "), advice()));
        }
        println!("missing: {}; installing {}", missing.join(", "), PACKAGES.join(" "));
        let mut update = Command::new("apt-get");
        workspace::succeed(update.args(["update", "-qq"]))?;
        let mut install = Command::new("apt-get");
        install.env("DEBIAN_FRONTEND", "noninteractive");
        install.args(["install", "-qq", "-y", "--no-install-recommends"]).args(PACKAGES);
        workspace::succeed(&mut install)?;
        Self::found()
            .map_err(|missing| format!("still missing: {}. {}", missing.join(", "), advice()))
    }

    pub(super) fn clippy_driver(&self) -> PathBuf {
        self.rustc.with_file_name("clippy-driver")
    }

    pub(super) fn rustdoc(&self) -> PathBuf {
        self.rustc.with_file_name("rustdoc")
    }
}

/// Returns the way to get all tools.
pub(super) fn advice() -> String {
    format!(
        "On Debian 12: apt-get install --no-install-recommends {}; elsewhere: \
         `rustup component add rust-src`, mingw-w64 and Wine",
        PACKAGES.join(" ")
    )
}

/// Returns the compiler in use if it has the source, else Debian's if that has it.
fn rustc_with_source() -> Option<PathBuf> {
    let in_use = env::var_os("RUSTC").map(PathBuf::from).or_else(|| on_path("rustc"));
    let has_source = |rustc: &PathBuf| {
        let sysroot = said_by(rustc, &["--print", "sysroot"]);
        sysroot.is_some_and(|sysroot| Path::new(sysroot.trim()).join(STD_SOURCE).is_dir())
    };
    in_use.into_iter().chain([DEBIAN_RUSTC.into()]).find(has_source)
}

fn wine() -> Option<PathBuf> {
    let debian = PathBuf::from(DEBIAN_WINE);
    on_path("wine64").or_else(|| debian.is_file().then_some(debian)).or_else(|| on_path("wine"))
}

fn is_root() -> bool {
    said_by(Path::new("id"), &["-u"]).is_some_and(|id| id.trim() == "0")
}

/// Returns the output of a program, if it succeeds.
fn said_by(program: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new(program).args(words).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn on_path(program: &str) -> Option<PathBuf> {
    let search = env::var_os("PATH")?;
    env::split_paths(&search).map(|directory| directory.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_every_package() {
        assert!(PACKAGES.iter().all(|package| advice().contains(package)));
    }

    #[test]
    fn a_compiler_that_is_not_there_says_nothing() {
        assert_eq!(said_by(Path::new("/no/rustc"), &["--print", "sysroot"]), None);
    }
}
