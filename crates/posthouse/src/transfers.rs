//! The transfers of a connection.

pub(crate) mod budgets;
pub(crate) mod driver;
pub(crate) mod hash_cache;
mod write_queue;
