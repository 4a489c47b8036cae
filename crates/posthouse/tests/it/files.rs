//! Files between peers.

mod carrier;
mod foreign;
mod lies;
mod names;
mod resuming;
mod sending;
