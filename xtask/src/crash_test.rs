//! `cargo xtask crash_test`: sends files while the sender, or the receiver, is killed repeatedly.
//!
//! After each kill only complete files may be under final names, and the next attempt must resume:
//! it may send at most one chunk again. A seed decides the time of each kill; the action of the
//! process at that time differs from run to run.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::workspace::{kill, wait_within};
use crate::{Result, workspace};

/// The size of the file that is sent while a process is killed.
const FILE_BYTES: usize = 96 << 20;
/// The default of the option for the largest chunk.
const CHUNK_BYTES: u64 = 256 * 1024;
/// The time after which a sender counts as hung.
const SEND_TIMEOUT: Duration = Duration::from_mins(2);

#[derive(clap::Args)]
pub(crate) struct Settings {
    /// The backend of both sides
    #[arg(default_value = "auto")]
    backend: String,
    /// Kills, half of them of the sender
    #[arg(long, default_value_t = 100)]
    kills: u64,
    /// The seed that decides the times of the kills
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(settings: Settings) -> Result {
    let root = workspace::root();
    workspace::succeed(&mut workspace::cargo(
        &root,
        &["build", "--release", "-p", "posthouse-cli"],
    ))?;
    let program = workspace::target_directory(&root)?.join("release/posthouse");
    let directory = tempfile::Builder::new().prefix("posthouse-crash-test-").tempdir();
    let directory = directory.map_err(|error| format!("cannot make a directory: {error}"))?;
    let Settings { backend, kills, seed } = settings;
    Campaign { program, directory, backend, rng: Rng(seed), port: 0 }.run(kills)
}

/// The process that is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
}

struct Campaign {
    program: PathBuf,
    directory: TempDir,
    backend: String,
    rng: Rng,
    port: u16,
}

#[derive(Default)]
struct Counts {
    kills: u64,
    /// The number of kills after which there was a part file to resume.
    with_part: u64,
    files: u64,
    /// The largest number of bytes that were sent again after a kill.
    resent_bytes_max: u64,
}

impl Campaign {
    fn run(mut self, kills: u64) -> Result {
        let outbox = self.directory.path().join("outbox");
        make(&outbox)?;
        let counts = self.all(kills, &outbox)?;
        println!(
            "{} kills on {}: {} files complete under their names, no other; after {} kills there \
             was a part to resume, and at most {} bytes were sent again",
            counts.kills, self.backend, counts.files, counts.with_part, counts.resent_bytes_max
        );
        Ok(())
    }

    fn all(&mut self, kills: u64, outbox: &Path) -> Result<Counts> {
        let mut counts = Counts::default();
        for victim in [Victim::Sender, Victim::Receiver] {
            let until = counts.kills + kills.div_ceil(2);
            while counts.kills < until {
                self.one_file(victim, outbox, until, &mut counts)?;
            }
        }
        Ok(counts)
    }

    /// Sends one file, with kills until an attempt succeeds.
    fn one_file(
        &mut self,
        victim: Victim,
        outbox: &Path,
        until: u64,
        counts: &mut Counts,
    ) -> Result {
        let inbox = self.directory.path().join(format!("inbox-{}", counts.kills));
        make(&inbox)?;
        let content = self.rng.bytes(FILE_BYTES);
        let file = outbox.join("file.bin");
        write(&file, &content)?;
        let mut server = self.serve(&inbox)?;
        loop {
            let held = part_bytes(&inbox)?;
            let mut sender = self.send(&file)?;
            let delay = Duration::from_micros(self.rng.below(120_000));
            let killed = counts.kills < until && wait_within(&mut sender, delay)?.is_none();
            if killed {
                counts.kills += 1;
                match victim {
                    Victim::Sender => kill(&mut sender)?,
                    Victim::Receiver => {
                        kill(&mut server)?;
                        kill(&mut sender)?;
                    }
                }
                check(&inbox, &content)?;
                if victim == Victim::Receiver {
                    server = self.serve(&inbox)?;
                } else {
                    settle(&inbox)?;
                }
                counts.with_part += u64::from(part_bytes(&inbox)? > 0);
                continue;
            }
            let said = finish(sender)?;
            let resumed = resumed_from(&said)?;
            // The last chunk may have arrived in part.
            let again = held.saturating_sub(resumed);
            if again > CHUNK_BYTES {
                return Err(format!(
                    "{held} bytes had arrived, and the sender resumed at {resumed}"
                ));
            }
            counts.resent_bytes_max = counts.resent_bytes_max.max(again);
            counts.files += 1;
            check(&inbox, &content)?;
            if !inbox.join("file.bin").exists() {
                return Err(format!("the sender succeeded, and there is no file: {said}"));
            }
            kill(&mut server)?;
            return fs::remove_dir_all(&inbox).map_err(|error| error.to_string());
        }
    }

    fn serve(&mut self, inbox: &Path) -> Result<Child> {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(&self.program);
        command.args(["serve", "--backend", &self.backend, "--listen", &address, "--dir"]);
        let mut server = start(command.arg(inbox).stdout(Stdio::piped()))?;
        let mut line = String::new();
        let stdout = server.stdout.take().ok_or("no output")?;
        let mut stdout = BufReader::new(stdout);
        stdout.read_line(&mut line).map_err(|error| error.to_string())?;
        let port = line
            .split_whitespace()
            .find_map(|word| word.trim_end_matches(';').strip_prefix("127.0.0.1:")?.parse().ok());
        self.port = port.ok_or_else(|| format!("no address in {line:?}"))?;
        // A thread reads the rest of the output, so that the server never blocks on a full pipe.
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = stdout.read_to_string(&mut rest);
        });
        Ok(server)
    }

    fn send(&self, file: &Path) -> Result<Child> {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(&self.program);
        command.args(["send", "--backend", &self.backend, "--json", &address]).arg(file);
        start(command.stdout(Stdio::piped()).stderr(Stdio::null()))
    }
}

fn start(command: &mut Command) -> Result<Child> {
    command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))
}

/// Waits for the end of a sender and returns its output.
fn finish(mut sender: Child) -> Result<String> {
    if wait_within(&mut sender, SEND_TIMEOUT)?.is_none() {
        kill(&mut sender)?;
        return Err("the sender hangs".to_owned());
    }
    let mut said = String::new();
    if let Some(mut stdout) = sender.stdout.take() {
        stdout.read_to_string(&mut said).map_err(|error| error.to_string())?;
    }
    let status = sender.wait().map_err(|error| error.to_string())?;
    if status.success() { Ok(said) } else { Err(format!("the sender failed: {said}")) }
}

/// Returns the offset at which the transfer of the file began.
fn resumed_from(said: &str) -> Result<u64> {
    let first = said.lines().next().unwrap_or_default();
    let object: serde_json::Value =
        serde_json::from_str(first).map_err(|error| format!("{first:?} is not JSON: {error}"))?;
    object["resumed_from"].as_u64().ok_or_else(|| format!("no resumed_from in {first}"))
}

/// Checks that only the complete file is under a final name.
fn check(inbox: &Path, content: &[u8]) -> Result {
    for entry in fs::read_dir(inbox).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.file_name().is_some_and(|name| name == ".posthouse") {
            continue;
        }
        let there = fs::read(&path).map_err(|error| error.to_string())?;
        if path.file_name().is_none_or(|name| name != "file.bin") || there != content {
            return Err(format!("{} is not the file that was sent", path.display()));
        }
    }
    Ok(())
}

/// Returns the bytes of unfinished files.
fn part_bytes(inbox: &Path) -> Result<u64> {
    let Ok(parts) = fs::read_dir(inbox.join(".posthouse")) else { return Ok(0) };
    let mut bytes = 0;
    for part in parts {
        // A part file that was removed meanwhile counts as 0 bytes.
        bytes += part.map_err(|error| error.to_string())?.metadata().map_or(0, |m| m.len());
    }
    Ok(bytes)
}

/// Waits until the receiver has written everything that it received from a killed sender.
fn settle(inbox: &Path) -> Result {
    let mut before = part_bytes(inbox)?;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(20));
        let now = part_bytes(inbox)?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
    Err("the receiver does not stop writing without a sender".to_owned())
}

fn make(path: &Path) -> Result {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Result {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A seeded generator (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn bytes(&mut self, bytes: usize) -> Vec<u8> {
        (0..bytes / 8).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
