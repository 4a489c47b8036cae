//! Tests of file transfers between peers.

mod descriptions;
mod descriptors;
mod file_handler;
mod foreign;
mod frames;
#[cfg(target_os = "linux")]
mod fuse_hang;
mod hash_cache;
mod hostile;
mod hostile_peer;
mod hung;
mod later;
mod links;
mod listings;
mod memory;
mod names;
mod odd_frames;
mod pace;
mod resuming;
mod sending;
mod slow_holders;
mod unaccepted;
mod unread;
mod walks;
