//! A Wine prefix: the directory that programs see as their Windows, and the processes that serve
//! it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::tools::Tools;
use crate::{Result, workspace};

/// The directory of the DLLs of 64-bit programs.
const SYSTEM: &str = "drive_c/windows/system32";
/// The DLL that Rust's std needs for its randomness. Wine has it from version 9 on.
const STAND_IN: &str = "bcryptprimitives.dll";
const STAND_IN_SOURCE: &str = include_str!("bcryptprimitives.c");
/// The command that makes Wine a server edition of Windows. By default it is a client edition, on
/// which Posthouse does not send files by `TransmitFile`.
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
/// The time limit of one command of Wine. Making a prefix takes about 10 s on an idle machine.
const PATIENCE: Duration = Duration::from_mins(5);
/// The time limit for the end of the resident program, which takes about 10 ms.
const GOING: Duration = Duration::from_secs(10);

/// A prefix that this process alone uses. Dropping it ends the Wine of this prefix, and no other.
pub(super) struct Prefix {
    path: PathBuf,
    wineserver: PathBuf,
    /// A Windows program that waits for the end of its input. As long as it runs, Wine's services
    /// keep running. If a test had to start the services, they would inherit its pipes.
    resident: Child,
    /// The lock of the prefix, held as long as the prefix is in use.
    _lock: File,
}

impl Prefix {
    /// Makes the prefix, if it does not exist, and starts Wine in it.
    pub(super) fn start(path: PathBuf, tools: &Tools) -> Result<Self> {
        let failed = |what: &str, error: std::io::Error| {
            format!("cannot {what} the Wine prefix {}: {error}", path.display())
        };
        fs::create_dir_all(&path).map_err(|error| failed("make", error))?;
        let lock = File::create(path.join(".in-use")).map_err(|error| failed("lock", error))?;
        lock.lock().map_err(|error| failed("lock", error))?;
        make(&path, tools)?;
        // Ends the Wine of a run that was killed; this process has the lock. It fails if none runs.
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
        // The services run after another program has started and ended.
        run(Command::new(&tools.wine), &prefix.path, &["cmd", "/c", "exit"])?;
        run(Command::new(&tools.wine), &prefix.path, &SERVER_EDITION)?;
        match prefix.resident.try_wait() {
            Ok(None) => Ok(prefix),
            _ => Err(format!("Wine does not stay up in {}", prefix.path.display())),
        }
    }

    /// Sets the variables of this prefix on a command that starts Windows programs.
    pub(super) fn set(&self, command: &mut Command) {
        for (name, value) in environment(&self.path) {
            command.env(name, value);
        }
    }
}

impl Drop for Prefix {
    fn drop(&mut self) {
        drop(self.resident.stdin.take());
        // Ends all processes of this prefix. This fails only if there are none.
        let _ = run(Command::new(&self.wineserver), &self.path, &["-k"]);
        let _ = workspace::wait_within(&mut self.resident, GOING);
        // Wine's server can be gone while its programs wait for it.
        let _ = workspace::kill(&mut self.resident);
    }
}

fn environment(prefix: &Path) -> [(&'static str, PathBuf); 3] {
    [
        ("WINEPREFIX", prefix.to_owned()),
        // Switches off the messages of Wine itself, not those of programs.
        ("WINEDEBUG", "-all".into()),
        // Switches off .NET, the browser engine and menu entries.
        ("WINEDLLOVERRIDES", "mscoree,mshtml,winemenubuilder.exe=".into()),
    ]
}

fn under_wine(mut command: Command, prefix: &Path) -> Command {
    command.envs(environment(prefix));
    command
}

/// Makes the prefix, unless it is complete. The stand-in DLL comes last, so its presence shows that
/// the prefix is complete.
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

/// Runs a command of Wine to its end, without the input and output of this process: processes that
/// the command leaves running would keep them open.
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
