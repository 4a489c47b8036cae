//! A port of this machine: what its backends have in common.
//!
//! | file | what it holds |
//! |---|---|
//! | `native_port` | the port: its lanes, its threads, its clock |
//! | `threads`, `blocking_pool` | threads of workers; threads for tasks that block |
//! | `resolver` | name look-ups |
//! | `lane_remote` | the side of a pinned lane that other threads use |
//! | `work_queue` | the queue of a lane that several workers take from |
//! | `completion_queue` | the completions of one worker, and its counters |
//! | `slot_table`, `shared_slot_table` | sockets by slot and generation, of one lane or of several workers |
//! | `receives` | the pending receives of one socket |

pub(crate) mod blocking_pool;
pub(crate) mod completion_queue;
#[cfg(target_os = "linux")]
pub(crate) mod lane_remote;
pub(crate) mod native_port;
pub(crate) mod receives;
pub(crate) mod resolver;
pub(crate) mod shared_slot_table;
pub(crate) mod slot_table;
pub(crate) mod threads;
pub(crate) mod work_queue;
