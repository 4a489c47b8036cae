//! The campaign of admission: hosts that connect without end and never prove the key, or are never
//! admitted, and honest peers that must get in meanwhile.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use posthouse::sim::{Faults, RawStream, World};
use posthouse::{
    ConnectFailure, ConnectionOptions, DisconnectReason, Endpoint, EndpointOptions, Handler,
    HandlerResult, Key, Layout, Listener, Message, Peer, PeerId, Stats, Target, Tuning,
};

use super::traffic::Rng;
use super::{Summary, Violation, await_end, hello, lock};

const KEY: &[u8] = b"0123456789abcdef";
/// The kind of the one message of an honest peer, which the server sends back.
const PASSWORD: u8 = 40;
/// The virtual time within which an honest peer must get in.
const GET_IN_TIME: Duration = Duration::from_secs(2);
/// The time after which no evicted or hostile connection is left.
const CALM_TIME: Duration = Duration::from_secs(30);

/// The settings of a run.
struct Plan {
    /// The address of the server, in one of the two families.
    server: &'static str,
    is_ipv6: bool,
    /// Whether the peers prove a key; otherwise the handler admits them with their first message.
    with_key: bool,
    /// The hosts that flood, each with an address or a prefix of its own.
    hosts: u64,
    /// The connections that honest peers hold at the end.
    honest: usize,
    max_unadmitted: usize,
    endpoint: EndpointOptions,
    connection: ConnectionOptions,
}

impl Plan {
    /// Draws a plan in which the honest peers have the right to get in: one of them is never the
    /// address with the most unadmitted peers.
    fn draw(rng: &mut Rng) -> Self {
        let is_ipv6 = rng.one_in(2);
        let hosts = 1 + rng.below(3);
        let honest = 2 + rng.below(3) as usize;
        let least = hosts as usize + 2;
        let max_unadmitted = least + rng.below(12) as usize;
        let max_connections = honest + least.max(max_unadmitted) + rng.below(20) as usize;
        let per_address = if rng.one_in(2) { honest + 1 + rng.below(8) as usize } else { 0 };
        let with_key = rng.one_in(2);
        let endpoint = EndpointOptions::default()
            .with_io_workers(1 + rng.below(6) as usize)
            .with_layout(if rng.one_in(2) { Layout::Pinned } else { Layout::Shared })
            .with_max_connections(max_connections)
            .with_max_connections_per_address(per_address)
            .with_max_unadmitted(max_unadmitted);
        let admission_ms = if with_key { 0 } else { 3_000 + rng.below(5_000) };
        let connection = ConnectionOptions::default()
            .with_close_timeout_ms(500 + rng.below(5_000))
            .with_admission_timeout_ms(admission_ms);
        let server = if is_ipv6 { "[fd00::1:1]:9990" } else { "10.0.0.1:9990" };
        Self { server, is_ipv6, with_key, hosts, honest, max_unadmitted, endpoint, connection }
    }

    fn start_server(&self, world: &World, tuning: Tuning) -> Endpoint<Doorkeeper> {
        let listener = Listener::new(self.server).options(self.connection.clone());
        let listener = if self.with_key { listener.key(key()) } else { listener };
        let builder = Endpoint::builder(Doorkeeper).options(self.endpoint.clone());
        world.start(builder.tuning(tuning).listen(listener)).expect("a simulated endpoint starts")
    }

    fn target(&self) -> Target {
        let target = Target::new(self.server).options(self.connection.clone());
        if self.with_key { target.key(key()) } else { target }
    }

    /// Returns an address of a hostile host: its only one, or any of its prefix.
    fn hostile_address(&self, rng: &mut Rng) -> IpAddr {
        let host = 1 + rng.below(self.hosts);
        if self.is_ipv6 {
            let [a, b, c, d] = [0, 16, 32, 48].map(|shift| (rng.next() >> shift) as u16);
            IpAddr::from([0x2001, 0xdb8, 0, host as u16, a, b, c, d])
        } else {
            IpAddr::from([198, 51, 100, host as u8])
        }
    }
}

fn key() -> Key {
    Key::new(KEY).expect("a long enough key")
}

/// The handler of the server: it admits a peer with its first message.
struct Doorkeeper;

impl Handler for Doorkeeper {
    type State = ();

    fn received(&self, peer: &mut Peer<'_, Self>, message: Message<'_>) -> HandlerResult {
        if message.kind() == PASSWORD {
            peer.admit();
            peer.send(message.kind(), message.payload());
        }
        Ok(())
    }
}

/// The events of the honest peers.
#[derive(Debug, Default)]
struct Met {
    inside: Vec<PeerId>,
    wrong: Option<String>,
    /// True exactly when the honest peers may end.
    over: bool,
}

/// The handler of the honest peers.
struct Honest(Arc<Mutex<Met>>);

impl Honest {
    fn ended(&self, text: String) {
        let mut met = lock(&self.0);
        if !met.over {
            met.wrong.get_or_insert(text);
        }
    }
}

impl Handler for Honest {
    type State = ();

    fn connected(&self, peer: &mut Peer<'_, Self>) -> HandlerResult {
        peer.send(PASSWORD, b"open");
        Ok(())
    }

    fn received(&self, peer: &mut Peer<'_, Self>, _: Message<'_>) -> HandlerResult {
        lock(&self.0).inside.push(peer.id());
        Ok(())
    }

    fn disconnected(&self, peer: &mut Peer<'_, Self>, why: &DisconnectReason) {
        self.ended(format!("T30: honest {} lost its connection: {why}", peer.id()));
    }

    fn connect_failed(&self, _: &Endpoint<Self>, failure: &ConnectFailure) {
        self.ended(format!("T30: honest {} was kept out: {}", failure.id(), failure.reason()));
    }
}

/// The connections of the hostile hosts.
struct Flood {
    raws: VecDeque<RawStream>,
    /// The maximum number of them that are held.
    held: usize,
    /// The time between two of them.
    pace: Duration,
}

impl Flood {
    fn dial(&mut self, world: &World, plan: &Plan, rng: &mut Rng) {
        let raw = world.dial_from(plan.hostile_address(rng), plan.server);
        match rng.below(6) {
            0 => {}
            1 => raw.send(&hello(0)[..7]),
            2 => raw.send(&[&hello(0)[..], &[33, 0, 0, 0, 6], &[1; 32]].concat()),
            3 => raw.stop_reading(),
            _ => raw.send(&hello(0)),
        }
        self.raws.push_back(raw);
        if self.raws.len() > self.held
            && let Some(oldest) = self.raws.pop_front()
        {
            match rng.below(3) {
                0 => oldest.reset(),
                1 => oldest.finish(),
                _ => drop(oldest),
            }
        }
    }
}

/// Runs admission with one seed.
///
/// # Errors
///
/// The first contract that was broken.
///
/// # Panics
///
/// If an assertion of the framework or a checker of the simulated port fails.
pub fn run_admission(seed: u64) -> Result<Summary, Violation> {
    let mut rng = Rng::new(seed ^ 0x6164_6d69_7373);
    let world = World::new(seed);
    let way = Duration::from_millis(5 + rng.below(40));
    world.faults(Faults { delay: way / 2..=way, ..Faults::typical() });
    let plan = Plan::draw(&mut rng);
    let tuning = Tuning::default().with_pending_reads(1 + rng.below(8) as usize);
    let server = plan.start_server(&world, tuning);
    let met = Arc::<Mutex<Met>>::default();
    let builder = Endpoint::builder(Honest(met.clone()));
    let client = world.start(builder).expect("a simulated endpoint starts");
    let pace = Duration::from_micros(200 + rng.below(2_000));
    let held = 2 * plan.max_unadmitted + rng.below(50) as usize;
    let mut flood = Flood { raws: VecDeque::new(), held, pace };
    let checked = get_in(&world, &plan, &mut rng, (&server, &client, &met), &mut flood);
    let checked = checked.and_then(|()| {
        drop(flood);
        world.run_for(CALM_TIME);
        calm(&server.stats(), plan.honest)
    });
    checked.map_err(Violation::of)?;
    lock(&met).over = true;
    server.shutdown(Duration::from_secs(1));
    client.shutdown(Duration::from_secs(1));
    await_end(&world, std::slice::from_ref(&server))?;
    await_end(&world, std::slice::from_ref(&client))?;
    let server = server.stats();
    let client = client.stats();
    Ok(Summary {
        connections: server.connected + client.connected,
        disconnections: server.disconnected + client.disconnected,
        operations: server.operations_submitted + client.operations_submitted,
        faults: world.fault_counts().total(),
        fingerprint: world.fingerprint(),
        ..Summary::default()
    })
}

/// Lets honest peers connect, one after the other, while the hosts flood. Some connections of the
/// honest are closed again.
fn get_in(
    world: &World,
    plan: &Plan,
    rng: &mut Rng,
    (server, client, met): (&Endpoint<Doorkeeper>, &Endpoint<Honest>, &Mutex<Met>),
    flood: &mut Flood,
) -> Result<(), String> {
    for _ in 0..2 * plan.max_unadmitted {
        flood.dial(world, plan, rng);
        world.run_for(flood.pace);
    }
    for number in 1..=plan.honest {
        client.connect(plan.target(), ()).map_err(|error| error.to_string())?;
        let until = world.now() + GET_IN_TIME;
        while lock(met).inside.len() < number {
            let stats = server.stats();
            if let Some(text) = &lock(met).wrong {
                return Err(format!("{text}: {stats:?}"));
            }
            if world.now() > until {
                return Err(format!("T30: an honest peer is not in after 2 s: {stats:?}"));
            }
            if stats.unadmitted > plan.max_unadmitted {
                return Err(format!("T4: more than {}: {stats:?}", plan.max_unadmitted));
            }
            flood.dial(world, plan, rng);
            world.run_for(flood.pace);
        }
    }
    // Meanwhile nobody who is inside loses the place.
    for _ in 0..4 * plan.max_unadmitted {
        flood.dial(world, plan, rng);
        world.run_for(flood.pace);
    }
    lock(met).wrong.clone().map_or(Ok(()), Err)
}

/// Checks that the flood left nothing.
fn calm(stats: &Stats, honest: usize) -> Result<(), String> {
    if stats.unadmitted > 0 || stats.connections != honest {
        return Err(format!("T4: not only the {honest} honest are left: {stats:?}"));
    }
    Ok(())
}
