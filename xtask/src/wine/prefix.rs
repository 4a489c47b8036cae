//! The Windows that programs see under Wine: a directory, and the processes that serve it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tools::Tools;
use crate::{Result, workspace};

/// The directory in which 64-bit programs look for DLLs.
const SYSTEM: &str = "drive_c/windows/system32";
/// Rust's std needs it for its randomness; Wine has it from version 9 on.
const STAND_IN: &str = "bcryptprimitives.dll";
const STAND_IN_SOURCE: &str = include_str!("bcryptprimitives.c");
/// Wine takes itself for a client edition of Windows, on which files are not sent by TransmitFile.
const SERVER_EDITION: [&str; 10] = [
    "reg",
    "add",
    r"HKLM\System\CurrentControlSet\Control\ProductOptions",
    "/v",
    "ProductType",
    "/t",
    "REG_SZ",
    "/d",
    "ServerNT",
    "/f",
];
/// Made in some 10 s on an idle machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// Gone in some 10 ms.
const GOING: Duration = Duration::from_secs(10);

/// A prefix in use, by this process alone. Its Wine ends with it, and no other.
pub(super) struct Prefix {
    path: PathBuf,
    wineserver: PathBuf,
    /// A Windows program that waits for its input to end. As long as there is one, Wine's services
    /// stay up: a test that had to start them would leave them its pipes.
    resident: Child,
    /// Held as long as the prefix is in use.
    _lock: File,
}

impl Prefix {
    /// Makes the prefix, if it is not there, and starts Wine in it.
    pub(super) fn start(path: PathBuf, tools: &Tools) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            format!("cannot {what} the Wine prefix {}: {error}", path.display())
        };
        fs::create_dir_all(&path).map_err(|error| failed("make", error))?;
        let lock = File::create(path.join(".in-use")).map_err(|error| failed("lock", error))?;
        lock.lock().map_err(|error| failed("lock", error))?;
        make(&path, tools)?;
        // What a run that was killed has left; nobody else has the lock. It fails where nothing is.
        let _ = run(Command::new(&tools.wineserver), &path, &["-k"]);
        let resident = under_wine(Command::new(&tools.wine), &path)
            .arg("cmd")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| failed("start", error))?;
        let wineserver = tools.wineserver.clone();
        let mut prefix = Self { path, wineserver, resident, _lock: lock };
        // Once another program has come and gone the services are up.
        run(Command::new(&tools.wine), &prefix.path, &["cmd", "/c", "exit"])?;
        run(Command::new(&tools.wine), &prefix.path, &SERVER_EDITION)?;
        match prefix.resident.try_wait() {
            Ok(None) => Ok(prefix),
            _ => Err(format!("Wine does not stay up in {}", prefix.path.display())),
        }
    }

    /// A command that starts Windows programs, set up for this prefix.
    pub(super) fn set(&self, command: &mut Command) {
        for (name, value) in environment(&self.path) {
            command.env(name, value);
        }
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        drop(self.resident.stdin.take());
        // Whatever is still there of Wine is of this prefix, and is ended. That can fail only where
        // nothing is there.
        let _ = run(Command::new(&self.wineserver), &self.path, &["-k"]);
        let _ = workspace::wait_within(&mut self.resident, GOING);
        // Wine's server can be gone, and its programs wait for it.
        let _ = workspace::kill(&mut self.resident);
    }
}

fn environment(prefix: &Path) -> [(&'static str, PathBuf); 3] {
    [
        ("WINEPREFIX", prefix.to_owned()),
        // Wine's own remarks; those of programs come all the same.
        ("WINEDEBUG", "-all".into()),
        // Not wanted: .NET, a browser's engine and entries in menus.
        ("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=".into()),
    ]
}

fn under_wine(mut command: Command, prefix: &Path) -> Command {
    command.envs(environment(prefix));
    command
}

/// The stand-in comes last: where it is, everything is.
fn make(prefix: &Path, tools: &Tools) -> Result {
    let stand_in = prefix.join(SYSTEM).join(STAND_IN);
    if stand_in.exists() {
        return Ok(());
    }
    println!("making a Wine prefix in {}", prefix.display());
    run(Command::new(&tools.wine), prefix, &["wineboot.exe", "--init"])?;
    run(Command::new(&tools.wineserver), prefix, &["-w"])?;
    let source = prefix.join("bcryptprimitives.c");
    let made = prefix.join(STAND_IN);
    fs::write(&source, STAND_IN_SOURCE)
        .map_err(|error| format!("cannot write {}: {error}", source.display()))?;
    let mut gcc = Command::new(&tools.gcc);
    gcc.args(["-shared", "-O2", "-s", "-o"]).arg(&made).arg(&source).arg("-ladvapi32");
    workspace::succeed(&mut gcc)?;
    fs::rename(&made, &stand_in)
        .map_err(|error| format!("cannot put {} into its place: {error}", made.display()))
}

/// Runs something of Wine's to its end, without our input and output: what it leaves running would
/// hold them.
fn run(command: Command, prefix: &Path, words: &[&str]) -> Result {
    let mut command = under_wine(command, prefix);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let name = workspace::shown(&command);
    let mut child = command.spawn().map_err(|error| format!("cannot run `{name}`: {error}"))?;
    match workspace::wait_within(&mut child, PATIENCE)? {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("`{name}` failed: {status}")),
        None => {
            workspace::kill(&mut child)?;
            Err(format!("`{name}` did not end within {} s", PATIENCE.as_secs()))
        }
    }
}
