//! `posthouse demo`: a server and a hundred clients in one process, with a check of every count.

mod client;
mod demo_counts;
mod report;
mod sample_files;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use posthouse::{Endpoint, EndpointOptions, Handler, Stats, Target};

use crate::failure::{CommandResult, Failure};
use crate::monitor::Monitor;
use crate::pattern::Pattern;
use crate::term::stdout::ReportFlags;
use crate::{rlimit, settings};
use client::{ClientState, DemoClient};
use demo_counts::DemoCounts;
use report::Report;
use sample_files::SampleFiles;
use server::DemoServer;

/// Run a demonstration: a server and a hundred clients in this process, over loopback.
///
/// The clients send messages and check the echoes, make requests, join groups and receive the
/// messages of their groups. Two clients send a file into a temporary directory and get it back.
/// One client in ten resets its connection while its messages are in flight. In the end every count
/// is checked, down to the last operation and socket. The exit code is 0 if all counts are right.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse demo
  posthouse demo --layout shared
  posthouse demo --json")]
pub(crate) struct Demo {
    #[command(flatten)]
    io: settings::IoFlags,
    #[command(flatten)]
    report: ReportFlags,
}

const CLIENTS: u32 = 100;
/// The number of clients of which one aborts its connection half-way.
const ABORT_EVERY: u32 = 10;
const ABORTING_CLIENTS: u32 = CLIENTS / ABORT_EVERY;
const ECHOES: u64 = 500;
/// The number of messages of each client that are in flight at the same time.
const ECHOES_IN_FLIGHT: u64 = 16;
const ECHO_BYTES: usize = 200;
const REQUESTS: u64 = 20;
const GROUPS: u32 = 4;
const GROUP_MESSAGES: u64 = 25;
/// The number of clients that send a file and get it back. They are the first ones.
const FILES: u32 = 2;
const FILE_BYTES: usize = 4 << 20;

/// The kinds of messages. Kinds below 32 are IOCPS text, or reserved.
mod kind {
    /// A message that the server echoes.
    pub(super) const ECHO: u8 = 0;
    /// A request whose reply is the reversed payload.
    pub(super) const REVERSE: u8 = 40;
    /// A request to join the group that the payload names.
    pub(super) const JOIN: u8 = 41;
    /// A message to a group.
    pub(super) const GROUP: u8 = 42;
}

/// The time after which events that have not occurred are reported as errors.
const DEMO_TIMEOUT: Duration = Duration::from_secs(20);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);

fn aborts(client: u32) -> bool {
    client % ABORT_EVERY == ABORT_EVERY - 1
}

fn group_of(client: u32) -> u32 {
    client % GROUPS
}

fn group_name(group: u32) -> String {
    format!("room {group}")
}

fn group_message(group: u32, number: u64) -> Vec<u8> {
    format!("message {number} to {}", group_name(group)).into_bytes()
}

/// The result of a demonstration.
pub(crate) struct DemoResult {
    backend: &'static str,
    elapsed: Duration,
    counts: Arc<Monitor<DemoCounts>>,
    /// The number of files that were received back unchanged.
    files_unchanged: u64,
    server: Stats,
    clients: Stats,
}

impl Demo {
    pub(crate) fn run(&self) -> CommandResult {
        let mut options = EndpointOptions::default();
        self.io.apply(&mut options)?;
        rlimit::raise_open_files();
        let report = Report::new(&perform(options)?);
        self.report.write(&report)?;
        report.verdict()
    }
}

/// Runs the demonstration and waits until both endpoints have ended.
fn perform(options: EndpointOptions) -> CommandResult<DemoResult> {
    let counts = Arc::<Monitor<DemoCounts>>::default();
    let pattern = Pattern::new(&posthouse::Framing::Native, ECHO_BYTES).map_err(|why| {
        Failure::runtime(format!("cannot make the messages of the demonstration: {why}"))
    })?;
    let files = Arc::new(SampleFiles::make()?);
    let handler = DemoServer { counts: counts.clone(), inbox: files.inbox.clone() };
    let server =
        Endpoint::builder(handler).listen("127.0.0.1:0").options(options.clone()).start()?;
    let handler = DemoClient::new(counts.clone(), pattern, files.clone());
    let clients = Endpoint::builder(handler).options(options).start()?;
    let target = Target::from(server.addresses()[0]);

    let started = Instant::now();
    for _ in 0..CLIENTS {
        clients
            .connect(target.clone(), ClientState::default())
            .map_err(|error| Failure::runtime(format!("cannot connect: {error}")))?;
    }
    let remaining = u64::from(CLIENTS - ABORTING_CLIENTS);
    wait_for(&counts, |counts| {
        counts.joined == remaining && counts.server_disconnects == u64::from(ABORTING_CLIENTS)
    });
    for number in 0..GROUP_MESSAGES {
        for group in 0..GROUPS {
            server
                .group(&group_name(group))
                .send(kind::GROUP, &group_message(group, number))
                .map_err(|error| Failure::runtime(format!("cannot send to a group: {error}")))?;
        }
    }
    let all = u64::from(CLIENTS);
    wait_for(&counts, |counts| {
        counts.server_disconnects == all && counts.client_disconnects == all
    });
    let elapsed = started.elapsed();
    for ended in [end(&clients), end(&server)] {
        ended?;
    }
    let backend = server.backend();
    let files_unchanged = files.count_unchanged();
    let server = server.stats();
    let clients = clients.stats();
    Ok(DemoResult { backend, elapsed, counts, files_unchanged, server, clients })
}

/// Waits until the counts are as expected, an error was counted, or the time has passed.
fn wait_for(counts: &Monitor<DemoCounts>, is_done: impl Fn(&DemoCounts) -> bool) {
    let has_ended = |counts: &DemoCounts| !counts.errors.is_empty() || is_done(counts);
    counts.wait(Some(DEMO_TIMEOUT), has_ended);
}

fn end<H: Handler>(endpoint: &Endpoint<H>) -> CommandResult {
    endpoint.shutdown(SHUTDOWN_TIMEOUT);
    endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
}
