//! The root of the workspace, its files, and the calls of its tools.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// The file that cargo puts into its build directory.
const BUILT: &str = "CACHEDIR.TAG";

/// Returns the root of the workspace. `cargo run` passes the current path of this package in a
/// variable. The path at which it was compiled is only the fallback, because a copied tree may run
/// a program that was built elsewhere.
pub(crate) fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_path_buf)
}

/// Returns the paths of all files of the workspace, relative to `root`, with `/` between their
/// parts: the files that git tracks, and new files that it does not ignore. If git fails (in an
/// unpacked archive, or in a checkout of another user), these are all files outside of build
/// directories.
pub(crate) fn files(root: &Path) -> Result<BTreeSet<String>> {
    if let Some(files) = files_by_git(root) {
        return Ok(files);
    }
    let mut files = BTreeSet::new();
    walk(root, "", &mut files)
        .map_err(|error| format!("cannot list the files of {}: {error}", root.display()))?;
    Ok(files)
}

fn files_by_git(root: &Path) -> Option<BTreeSet<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .ok()?;
    let listed = String::from_utf8_lossy(&output.stdout);
    // git still lists a file whose removal is not yet committed.
    let there = |path: &&str| !path.is_empty() && root.join(path).is_file();
    output.status.success().then(|| listed.split('\0').filter(there).map(str::to_owned).collect())
}

fn walk(directory: &Path, prefix: &str, files: &mut BTreeSet<String>) -> std::io::Result<()> {
    for entry in directory.read_dir()? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_file() {
            files.insert(format!("{prefix}{name}"));
        } else if kind.is_dir() && name != ".git" && !entry.path().join(BUILT).exists() {
            walk(&entry.path(), &format!("{prefix}{name}/"), files)?;
        }
    }
    Ok(())
}

/// Returns a cargo command in `root`, without the variables by which the cargo that runs this
/// program describes it. With these variables, build scripts that watch them would run again.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(root).args(arguments);
    command
}

/// Returns the directory into which cargo builds.
pub(crate) fn target_directory(root: &Path) -> Result<PathBuf> {
    let output = cargo(root, &["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    let said = || format!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|_| said())?;
    metadata["target_directory"].as_str().map(PathBuf::from).ok_or_else(said)
}

/// Runs `command` to its end with its output on the terminal.
pub(crate) fn succeed(command: &mut Command) -> Result {
    let name = shown(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{name}` failed: {status}")),
        Err(error) => Err(format!("cannot run `{name}`: {error}")),
    }
}

/// Waits for the end of `child`, at most for `limit`.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(1)),
            Ok(status) => return Ok(status),
            Err(error) => return Err(format!("cannot wait for a program: {error}")),
        }
    }
}

/// Kills `child` if it still runs, and waits for its end.
pub(crate) fn kill(child: &mut Child) -> Result {
    // This fails if the program has already ended.
    let _ = child.kill();
    child.wait().map(drop).map_err(|error| format!("cannot wait for a program: {error}"))
}

/// Returns the command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let mut words = vec![program.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_git_the_sources_are_found_and_what_is_built_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        for file in ["Cargo.toml", ".ci/run", "src/target/a.rs", "built/CACHEDIR.TAG", ".git/HEAD"]
        {
            let file = place.join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let mut walked = BTreeSet::new();
        walk(place, "", &mut walked).unwrap();
        assert!(walked.iter().eq([".ci/run", "Cargo.toml", "src/target/a.rs"]), "{walked:?}");
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_runs_for_ever_is_not_awaited_for_ever() {
        let mut sleeper = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(wait_within(&mut sleeper, Duration::from_millis(20)), Ok(None));
        kill(&mut sleeper).unwrap();
        assert!(wait_within(&mut sleeper, Duration::ZERO).unwrap().is_some());
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let mut command = Command::new("/some/where/cargo");
        assert_eq!(shown(command.args(["test", "--doc"])), "cargo test --doc");
    }
}
