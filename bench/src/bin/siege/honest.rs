//! The honest peers: four that transfer files and echo messages, one that gets a small file, and
//! one newcomer a second.

use std::error::Error;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use posthouse::{Backend, Client, Destination, Directory, EndpointOptions, Key, Target};
use posthouse_bench::listening::tether;

use crate::fixture::{self, LARGE_BYTES, SMALL_FILE};

/// The interval at which the honest peers report.
pub(crate) const BIN: Duration = Duration::from_millis(250);
const WORKERS: usize = 4;
/// The number of echoes after each get and put, and the payload of one.
const ECHOES: usize = 16;
const ECHO_BYTES: usize = 1024;
const SMALL_EVERY: Duration = Duration::from_millis(50);
const NEWCOMER_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);
const RECONNECT: Duration = Duration::from_millis(100);

/// The events of one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bin {
    /// The bytes of files and echoes, each counted once.
    pub(crate) bytes: u64,
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    /// The worst latency of a small get that has ended or still waits, in microseconds.
    pub(crate) small_us: u64,
    pub(crate) newcomers: u64,
    pub(crate) newcomers_served: u64,
    pub(crate) newcomers_failed: u64,
    /// The worst latency of a newcomer's connect and echo that have ended or still wait, in
    /// microseconds.
    pub(crate) newcomer_us: u64,
}

impl Bin {
    /// Parses a line of the honest peers.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [bytes, operations, errors, small_us, newcomers, served, failed, newcomer_us] =
            numbers[..]
        else {
            return None;
        };
        Some(Self {
            bytes,
            operations,
            errors,
            small_us,
            newcomers,
            newcomers_served: served,
            newcomers_failed: failed,
            newcomer_us,
        })
    }

    fn line(self) -> String {
        let Self { bytes, operations, errors, small_us, newcomers, newcomer_us, .. } = self;
        let (served, failed) = (self.newcomers_served, self.newcomers_failed);
        format!(
            "{bytes} {operations} {errors} {small_us} {newcomers} {served} {failed} {newcomer_us}"
        )
    }
}

/// The events that the threads of the honest peers share.
#[derive(Default)]
struct Shared {
    bin: Mutex<Bin>,
    /// The time at which the small get that waits began.
    small_began: Mutex<Option<Instant>>,
    /// The times at which the newcomers that wait began, the oldest first.
    newcomers_began: Mutex<Vec<Instant>>,
    is_over: AtomicBool,
}

impl Shared {
    fn note(&self, change: impl FnOnce(&mut Bin)) {
        change(&mut lock(&self.bin));
    }

    /// Returns the events since the last call.
    fn take(&self) -> Bin {
        let mut bin = std::mem::take(&mut *lock(&self.bin));
        if let Some(began) = *lock(&self.small_began) {
            bin.small_us = bin.small_us.max(micros(began));
        }
        if let Some(began) = lock(&self.newcomers_began).first() {
            bin.newcomer_us = bin.newcomer_us.max(micros(*began));
        }
        bin
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Calls `session` again and again. It returns only on an error.
    fn repeat(&self, mut session: impl FnMut() -> Result<(), Box<dyn Error>>) {
        while !self.is_over() {
            if let Err(error) = session() {
                eprintln!("an honest peer: {error}");
                self.note(|bin| bin.errors += 1);
                thread::sleep(RECONNECT);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(since: Instant) -> u64 {
    since.elapsed().as_micros() as u64
}

/// Runs the honest peers until the standard input ends, and prints one [`Bin`] a line.
pub(crate) fn run(plain: SocketAddr, keyed: SocketAddr, root: &Path) -> io::Result<()> {
    tether()?;
    let shared = Arc::<Shared>::default();
    for number in 0..WORKERS {
        let (shared, root) = (shared.clone(), root.to_owned());
        let mut serial = 0;
        thread::spawn(move || shared.repeat(|| work(&shared, plain, &root, number, &mut serial)));
    }
    let (small, root) = (shared.clone(), root.to_owned());
    thread::spawn(move || small.repeat(|| get_small(&small, plain, &root)));
    let coming = shared.clone();
    thread::spawn(move || {
        while !coming.is_over() {
            let shared = coming.clone();
            thread::spawn(move || come(&shared, keyed));
            thread::sleep(NEWCOMER_EVERY);
        }
    });
    let ending = shared.clone();
    thread::spawn(move || {
        // The input has no content; its end is the end of the measurement.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        ending.is_over.store(true, Ordering::Relaxed);
    });
    let mut next = Instant::now();
    while !shared.is_over() {
        next += BIN;
        thread::sleep(next.saturating_duration_since(Instant::now()));
        writeln!(io::stdout(), "{}", shared.take().line())?;
    }
    Ok(())
}

fn connect(target: Target) -> Result<Client, Box<dyn Error>> {
    // The same backend in all measurements, so that only the server's differs.
    let options = EndpointOptions::default().with_backend(Backend::Readiness);
    Ok(Client::connect_with(target, options)?)
}

fn work(
    shared: &Shared,
    plain: SocketAddr,
    root: &Path,
    number: usize,
    serial: &mut usize,
) -> Result<(), Box<dyn Error>> {
    let (downloads, uploads) = (fixture::downloads(root), fixture::uploads(root));
    let destination = Directory::open(&downloads)?;
    let source = Directory::open(&uploads)?;
    let client = connect(Target::new(plain))?;
    while !shared.is_over() {
        *serial += 1;
        // The names of an earlier server may be left behind.
        let name = format!("{}-{number}-{serial}", std::process::id());
        let large = fixture::large_file(*serial + number);
        client.get(&large, Destination::new(&destination).named(name.as_str()))?;
        done(shared, LARGE_BYTES);
        fs::remove_file(downloads.join(&name))?;
        let upload = link(&uploads, &name)?;
        let put = client.put(&name, &source);
        fs::remove_file(upload)?;
        put?;
        done(shared, LARGE_BYTES);
        for echoed in 0..ECHOES {
            echo(&client, ECHO_BYTES, *serial + echoed)?;
            done(shared, ECHO_BYTES);
        }
    }
    Ok(())
}

fn done(shared: &Shared, bytes: usize) {
    shared.note(|bin| {
        bin.bytes += bytes as u64;
        bin.operations += 1;
    });
}

/// Gives the content to send a new name.
fn link(uploads: &Path, name: &str) -> io::Result<PathBuf> {
    let path = uploads.join(name);
    fs::hard_link(uploads.join("content"), &path)?;
    Ok(path)
}

/// Sends a message whose bytes depend on `number`, and compares the reply with it.
fn echo(client: &Client, bytes: usize, number: usize) -> Result<(), Box<dyn Error>> {
    let payload: Vec<u8> = (0..bytes).map(|at| (at + number) as u8).collect();
    client.send(40, &payload)?;
    let reply = client.receive(PATIENCE)?;
    if reply.payload[..] != payload[..] {
        return Err("an echo differs from the message".into());
    }
    Ok(())
}

fn get_small(shared: &Shared, plain: SocketAddr, root: &Path) -> Result<(), Box<dyn Error>> {
    let downloads = fixture::downloads(root);
    let destination = Directory::open(&downloads)?;
    let client = connect(Target::new(plain))?;
    while !shared.is_over() {
        let began = Instant::now();
        *lock(&shared.small_began) = Some(began);
        let got = client.get(SMALL_FILE, &destination);
        shared.note(|bin| bin.small_us = bin.small_us.max(micros(began)));
        *lock(&shared.small_began) = None;
        got?;
        fs::remove_file(downloads.join(SMALL_FILE))?;
        thread::sleep(SMALL_EVERY);
    }
    Ok(())
}

/// Connects with the key and echoes once.
fn come(shared: &Shared, keyed: SocketAddr) {
    let began = Instant::now();
    lock(&shared.newcomers_began).push(began);
    shared.note(|bin| bin.newcomers += 1);
    let visit = || -> Result<Client, Box<dyn Error>> {
        let client = connect(Target::new(keyed).key(Key::new(fixture::KEY)?))?;
        echo(&client, 11, 0)?;
        Ok(client)
    };
    let result = visit();
    let latency = micros(began);
    lock(&shared.newcomers_began).retain(|other| *other != began);
    shared.note(|bin| {
        bin.newcomer_us = bin.newcomer_us.max(latency);
        match &result {
            Ok(_) => bin.newcomers_served += 1,
            Err(_) => bin.newcomers_failed += 1,
        }
    });
    match result {
        Ok(client) => client.close(),
        Err(error) => eprintln!("a newcomer: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bin_survives_its_text() {
        let bin = Bin { bytes: 5, newcomers_served: 2, newcomer_us: 9, ..Bin::default() };
        assert_eq!(Bin::parse(&bin.line()), Some(bin));
        assert_eq!(Bin::parse("1 2 3"), None);
    }
}
