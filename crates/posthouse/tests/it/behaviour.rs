//! The behaviour of an endpoint.

mod admission;
mod clients;
mod connecting;
mod framings;
mod handlers;
mod heartbeats;
mod keys;
mod listening;
mod messages;
mod names;
mod paused;
mod records;
mod requests;
mod responders;
mod worlds;
