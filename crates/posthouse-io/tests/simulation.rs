//! The simulated backend: its network, its workers, its faults, and its checkers.

#[path = "simulation/checkers.rs"]
mod checkers;
#[path = "simulation/crashes.rs"]
mod crashes;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/disk_fixture.rs"]
mod disk_fixture;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/fixture.rs"]
mod fixture;
#[path = "simulation/hanging.rs"]
mod hanging;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/owner.rs"]
mod owner;
#[path = "simulation/scripts.rs"]
mod scripts;
#[path = "simulation/sendfile.rs"]
mod sendfile;
#[path = "simulation/streams.rs"]
mod streams;
#[path = "simulation/time.rs"]
mod time;
#[path = "simulation/traffic.rs"]
mod traffic;
#[path = "simulation/transfers.rs"]
mod transfers;
