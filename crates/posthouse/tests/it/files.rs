//! Files between peers.

mod carrier;
mod foreign;
mod frames;
mod lies;
mod names;
mod resuming;
mod sending;
mod turns;
