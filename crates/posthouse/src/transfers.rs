//! The transfers of a connection.

pub(crate) mod budgets;
pub(crate) mod driver;
pub(crate) mod hash_cache;
pub(crate) mod walks;
mod write_queue;
