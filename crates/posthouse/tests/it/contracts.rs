//! The contracts of an endpoint, by their numbers.

mod anywhere;
mod closing;
mod containment;
mod drops;
mod errors;
mod flow;
mod leaks;
mod once;
mod order;
mod reasons;
mod timers;
