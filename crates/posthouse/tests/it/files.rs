//! Files between peers.

mod again;
mod carrier;
mod foreign;
mod frames;
mod hostile;
mod hung;
mod later;
mod lies;
mod links;
#[cfg(target_os = "linux")]
mod mute;
mod names;
mod resuming;
mod sending;
mod turns;
