//! Files between peers.

mod carrier;
mod lies;
mod names;
mod resuming;
mod sending;
