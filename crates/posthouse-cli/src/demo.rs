//! `posthouse demo`: a server and a hundred clients in one process, and what came of it.

mod client;
mod files;
mod ledger;
mod report;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use posthouse::{Endpoint, Options, Stats, Target};

use crate::failure::{Failure, Outcome};
use crate::pattern::Pattern;
use crate::{open_files, output, settings};
use client::Visitor;
use files::Files;
use ledger::Ledger;
use report::Report;
use server::Host;

/// See it work: a server and a hundred clients, in this process, over loopback.
///
/// Clients send messages and check the echoes, make requests, join groups and get the groups'
/// messages; two send a file into a temporary directory and get it back meanwhile; one in ten
/// leaves with a reset while its messages are under way. Every count is checked, down to the last
/// operation and socket. The exit code is 0 only if all of it was right.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  posthouse demo
  posthouse demo --layout shared
  posthouse demo --json")]
pub(crate) struct Demo {
    #[command(flatten)]
    io: settings::IoFlags,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

const CLIENTS: u32 = 100;
/// One in so many clients leaves with a reset.
const LEAVER_EVERY: u32 = 10;
const LEAVERS: u32 = CLIENTS / LEAVER_EVERY;
const ECHOES: u64 = 500;
/// Messages of each client that are in flight at the same time.
const ECHOES_IN_FLIGHT: u64 = 16;
const ECHO_BYTES: usize = 200;
const REQUESTS: u64 = 20;
const GROUPS: u32 = 4;
const GROUP_MESSAGES: u64 = 25;
/// So many clients, the first ones, send a file and get it back.
const FILES: u32 = 2;
const FILE_BYTES: usize = 4 << 20;

/// Kinds of messages. Those below 32 are text of IOCPS, or Posthouse's own.
mod kind {
    /// Comes back as it is.
    pub(super) const ECHO: u8 = 0;
    /// A request: the reply is the payload, reversed.
    pub(super) const REVERSE: u8 = 40;
    /// A request: to join the group that the payload names.
    pub(super) const JOIN: u8 = 41;
    /// A message to a group.
    pub(super) const GROUP: u8 = 42;
}

/// Longer than any of it takes; then what did not happen is reported.
const PATIENCE: Duration = Duration::from_secs(20);
const CLOSING: Duration = Duration::from_secs(2);

fn leaves(client: u32) -> bool {
    client % LEAVER_EVERY == LEAVER_EVERY - 1
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

/// What a demonstration came to.
pub(crate) struct Results {
    backend: &'static str,
    elapsed: Duration,
    ledger: Arc<Ledger>,
    /// Files that came back as they were sent.
    files_same: u64,
    server: Stats,
    clients: Stats,
}

impl Demo {
    pub(crate) fn run(&self) -> Outcome {
        let mut options = Options::default();
        self.io.apply(&mut options)?;
        open_files::raise_limit();
        let report = Report::new(&perform(options)?);
        output::report(&report, self.json)?;
        report.verdict()
    }
}

/// Does all of it, and waits until both endpoints have ended.
fn perform(options: Options) -> Outcome<Results> {
    let ledger = Arc::<Ledger>::default();
    let pattern = Pattern::new(&posthouse::Framing::Native, ECHO_BYTES)
        .map_err(|why| Failure::runtime(format!("no messages for the demonstration: {why}")))?;
    let files = Arc::new(Files::make()?);
    let host = Host { ledger: ledger.clone(), inbox: files.inbox.clone() };
    let server = Endpoint::builder(host).listen("127.0.0.1:0").options(options.clone()).start()?;
    let visitor = Visitor::new(ledger.clone(), pattern, files.clone());
    let clients = Endpoint::builder(visitor).options(options).start()?;
    let target = Target::parse(&server.addresses()[0].to_string())
        .map_err(|error| Failure::runtime(error.to_string()))?;

    let started = Instant::now();
    for _ in 0..CLIENTS {
        clients
            .connect(target.clone())
            .map_err(|error| Failure::runtime(format!("cannot connect: {error}")))?;
    }
    let staying = u64::from(CLIENTS - LEAVERS);
    ledger.wait(PATIENCE, |counts| {
        counts.joined == staying && counts.gone_from_server == u64::from(LEAVERS)
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
    ledger.wait(PATIENCE, |c| c.gone_from_server == all && c.gone_from_clients == all);
    let elapsed = started.elapsed();
    for endpoint_ends in [end(&clients), end(&server)] {
        endpoint_ends?;
    }
    let backend = server.backend();
    let (server, clients) = (server.stats(), clients.stats());
    let files_same = files.same();
    Ok(Results { backend, elapsed, ledger, files_same, server, clients })
}

fn end<S: Default + Send + 'static>(endpoint: &Endpoint<S>) -> Outcome {
    endpoint.shutdown(CLOSING);
    endpoint.wait().map_err(|error| Failure::runtime(error.to_string()))
}
