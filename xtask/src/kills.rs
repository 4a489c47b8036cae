//! `cargo xtask kills`: files sent while the sender, or the receiver, is killed again and again.
//!
//! After each kill nothing may be under a final name that is not whole and right, and the next
//! attempt must go on with what lies on the disk: sent again is at most one chunk. What is killed
//! when is drawn from a seed; what it does at that moment is another thing each time.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::arguments::Arguments;
use crate::{Outcome, workspace};

const KILLS_DEFAULT: u64 = 100;
/// Bytes of the file that is sent while somebody is killed.
const FILE_BYTES: usize = 96 << 20;
/// The largest chunk, by default of the option.
const CHUNK_BYTES: u64 = 256 * 1024;
/// Longer than anything takes that has not hung.
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) fn run(words: Vec<String>) -> Outcome {
    let mut arguments = Arguments::new("kills", words);
    let kills = arguments.number("--kills")?.unwrap_or(KILLS_DEFAULT);
    let seed = arguments.number("--seed")?.unwrap_or(1);
    let backend = arguments.word().unwrap_or_else(|| "auto".to_owned());
    arguments.finish()?;
    let root = workspace::root();
    workspace::succeed(&mut workspace::cargo(
        &root,
        &["build", "--release", "-p", "posthouse-cli"],
    ))?;
    let program = workspace::target_directory(&root)?.join("release/posthouse");
    let place = tempfile::Builder::new().prefix("posthouse-kills-").tempdir();
    let place = place.map_err(|error| format!("cannot make a directory: {error}"))?;
    let campaign = Campaign { program, place, backend, dice: Dice(seed), port: 0 };
    campaign.run(kills)
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Sender,
    Receiver,
}

struct Campaign {
    program: PathBuf,
    place: TempDir,
    backend: String,
    dice: Dice,
    port: u16,
}

#[derive(Default)]
struct Figures {
    kills: u64,
    /// Kills after which something was there to go on with.
    with_part: u64,
    files: u64,
    /// The most that was sent again after a kill.
    again_bytes_max: u64,
}

impl Campaign {
    fn run(mut self, kills: u64) -> Outcome {
        let outbox = self.place.path().join("outbox");
        make(&outbox)?;
        let result = self.all(kills, &outbox);
        let figures = result?;
        println!(
            "kills: {} kills on {}: {} files whole under their names, none other; after {} kills \
             there was something to go on with, and at most {} bytes came again",
            figures.kills, self.backend, figures.files, figures.with_part, figures.again_bytes_max
        );
        Ok(())
    }

    fn all(&mut self, kills: u64, outbox: &Path) -> Outcome<Figures> {
        let mut figures = Figures::default();
        for victim in [Victim::Sender, Victim::Receiver] {
            let until = figures.kills + kills.div_ceil(2);
            while figures.kills < until {
                self.one_file(victim, outbox, until, &mut figures)?;
            }
        }
        Ok(figures)
    }

    /// Sends one file, with kills until it is there.
    fn one_file(
        &mut self,
        victim: Victim,
        outbox: &Path,
        until: u64,
        figures: &mut Figures,
    ) -> Outcome {
        let inbox = self.place.path().join(format!("inbox-{}", figures.kills));
        make(&inbox)?;
        let content = self.dice.bytes(FILE_BYTES);
        let file = outbox.join("file.bin");
        write(&file, &content)?;
        let mut server = self.serve(&inbox)?;
        loop {
            let held = part_bytes(&inbox)?;
            let mut sender = self.send(&file)?;
            let patience = Duration::from_micros(self.dice.below(120_000));
            let killed = figures.kills < until && !ends_within(&mut sender, patience)?;
            if killed {
                figures.kills += 1;
                match victim {
                    Victim::Sender => end(&mut sender)?,
                    Victim::Receiver => {
                        end(&mut server)?;
                        end(&mut sender)?;
                    }
                }
                check(&inbox, &content)?;
                if victim == Victim::Receiver {
                    server = self.serve(&inbox)?;
                } else {
                    settle(&inbox)?;
                }
                figures.with_part += u64::from(part_bytes(&inbox)? > 0);
                continue;
            }
            let said = finish(sender)?;
            let resumed = resumed_from(&said)?;
            // The last part of what had come may have been half a chunk.
            let again = held.saturating_sub(resumed);
            if again > CHUNK_BYTES {
                return Err(format!("{held} bytes were there, and it went on at {resumed}"));
            }
            figures.again_bytes_max = figures.again_bytes_max.max(again);
            figures.files += 1;
            check(&inbox, &content)?;
            if !inbox.join("file.bin").exists() {
                return Err(format!("the sender said well, and there is no file: {said}"));
            }
            end(&mut server)?;
            return fs::remove_dir_all(&inbox).map_err(|error| error.to_string());
        }
    }

    fn serve(&mut self, inbox: &Path) -> Outcome<Child> {
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
        // Whatever it still says is read, so that it never waits for a reader.
        std::thread::spawn(move || {
            let mut rest = String::new();
            let _ = stdout.read_to_string(&mut rest);
        });
        Ok(server)
    }

    fn send(&self, file: &Path) -> Outcome<Child> {
        let address = format!("127.0.0.1:{}", self.port);
        let mut command = Command::new(&self.program);
        command.args(["send", "--backend", &self.backend, "--json", &address]).arg(file);
        start(command.stdout(Stdio::piped()).stderr(Stdio::null()))
    }
}

fn start(command: &mut Command) -> Outcome<Child> {
    command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start {command:?}: {error}"))
}

fn end(child: &mut Child) -> Outcome {
    // SIGKILL: nobody can prepare for it. Fails where it has ended by itself.
    let _ = child.kill();
    child.wait().map(drop).map_err(|error| error.to_string())
}

fn ends_within(child: &mut Child, patience: Duration) -> Outcome<bool> {
    let until = Instant::now() + patience;
    loop {
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Waits for a sender that nobody kills; what it said.
fn finish(mut sender: Child) -> Outcome<String> {
    if !ends_within(&mut sender, PATIENCE)? {
        end(&mut sender)?;
        return Err("the sender hangs".to_owned());
    }
    let mut said = String::new();
    if let Some(mut stdout) = sender.stdout.take() {
        stdout.read_to_string(&mut said).map_err(|error| error.to_string())?;
    }
    match sender.wait().map_err(|error| error.to_string())?.success() {
        true => Ok(said),
        false => Err(format!("the sender failed: {said}")),
    }
}

/// Where the file's transfer began.
fn resumed_from(said: &str) -> Outcome<u64> {
    let first = said.lines().next().unwrap_or_default();
    let object: serde_json::Value =
        serde_json::from_str(first).map_err(|error| format!("{first:?} is no JSON: {error}"))?;
    object["resumed_from"].as_u64().ok_or_else(|| format!("no resumed_from in {first}"))
}

/// Nothing is under a final name but the whole file.
fn check(inbox: &Path, content: &[u8]) -> Outcome {
    for entry in fs::read_dir(inbox).map_err(|error| error.to_string())? {
        let path = entry.map_err(|error| error.to_string())?.path();
        if path.file_name().is_some_and(|name| name == ".posthouse") {
            continue;
        }
        let there = fs::read(&path).map_err(|error| error.to_string())?;
        if path.file_name().is_none_or(|name| name != "file.bin") || there != content {
            return Err(format!("{} is there and is not what was sent", path.display()));
        }
    }
    Ok(())
}

/// How much of the file lies unfinished.
fn part_bytes(inbox: &Path) -> Outcome<u64> {
    let Ok(parts) = fs::read_dir(inbox.join(".posthouse")) else { return Ok(0) };
    let mut bytes = 0;
    for part in parts {
        // One that is removed just now holds nothing.
        bytes += part.map_err(|error| error.to_string())?.metadata().map_or(0, |m| m.len());
    }
    Ok(bytes)
}

/// Waits until a receiver that lives has written what it had from a sender that does not.
fn settle(inbox: &Path) -> Outcome {
    let mut before = part_bytes(inbox)?;
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(20));
        let now = part_bytes(inbox)?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
    Err("the receiver goes on writing without a sender".to_owned())
}

fn make(path: &Path) -> Outcome {
    fs::create_dir_all(path).map_err(|error| format!("cannot make {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// A seeded generator (splitmix64).
struct Dice(u64);

impl Dice {
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
