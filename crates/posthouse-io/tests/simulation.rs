//! The simulated backend: its network, its workers, its faults, and its checkers.

#[path = "simulation/checkers.rs"]
mod checkers;
#[path = "simulation/rig.rs"]
mod rig;
#[path = "simulation/traffic.rs"]
mod traffic;
