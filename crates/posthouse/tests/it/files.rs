//! Files between peers.

mod again;
mod carrier;
mod foreign;
mod frames;
mod hostile;
mod lies;
mod links;
mod names;
mod resuming;
mod sending;
mod turns;
