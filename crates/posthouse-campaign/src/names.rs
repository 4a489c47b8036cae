//! The host names of the server, some of which hang: no name server answers.

use posthouse::sim::World;

use super::SERVER;
use super::traffic::Rng;

/// A name that resolves, one that hangs for the whole run, and one that hangs at times.
const HOSTS: [&str; 3] = ["server.example", "hangs.example", "changes.example"];

/// Returns whether the clients of this run connect by name: in one run of four.
fn has_names(world: &World) -> bool {
    world.seed() % 4 == 2
}

/// Makes the names known.
pub(super) fn setup(world: &World) {
    if !has_names(world) {
        return;
    }
    let server: posthouse::Address = SERVER.parse().expect("the server has an address");
    for host in HOSTS {
        world.name(host, &[server.ip()]);
    }
    world.hang_name(HOSTS[1]);
}

/// Returns the address or a name of the server. It depends on the seed and the time, so that the
/// other decisions of a run stay the same.
pub(super) fn server_address(world: &World) -> String {
    if !has_names(world) {
        return SERVER.to_owned();
    }
    let mut rng = Rng::new(world.seed() ^ (world.now().as_nanos() as u64).rotate_left(20));
    if rng.one_in(2) {
        world.hang_name(HOSTS[2]);
    } else {
        world.resume_name(HOSTS[2]);
    }
    format!("{}:9990", HOSTS[rng.below(HOSTS.len() as u64) as usize])
}
