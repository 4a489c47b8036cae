//! The simulated backend: its network, its workers, its faults, and its checkers.

#[path = "simulation/checkers.rs"]
mod checkers;
#[path = "simulation/crashes.rs"]
mod crashes;
#[path = "simulation/desk.rs"]
mod desk;
#[path = "simulation/disk.rs"]
mod disk;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/files_sent.rs"]
mod files_sent;
#[path = "simulation/hanging.rs"]
mod hanging;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/rig.rs"]
mod rig;
#[path = "simulation/streams.rs"]
mod streams;
#[path = "simulation/time.rs"]
mod time;
#[path = "simulation/traffic.rs"]
mod traffic;
#[path = "simulation/transfers.rs"]
mod transfers;
