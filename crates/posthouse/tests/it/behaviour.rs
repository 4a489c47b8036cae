//! What an endpoint does.

mod admission;
mod connecting;
mod framings;
mod heartbeats;
mod keys;
mod messages;
mod requests;
