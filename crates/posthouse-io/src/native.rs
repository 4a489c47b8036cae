//! A port of this machine: what its backends have in common.
//!
//! | file | what it holds |
//! |---|---|
//! | `native_port` | the port: its lanes and what starts, wakes and counts them |
//! | `native_lanes` | the lanes of a port, as each backend has them |
//! | `services` | the part of the port that its lanes use: clock, buffers, look-ups, files |
//! | `threads`, `blocking_pool` | threads of workers; threads for tasks that block |
//! | `file_pool`, `resolver` | file operations and name look-ups on such threads |
//! | `socket_handle` | the handles of sockets, also of those that no lane has registered yet |
//! | `lane_remote`, `lane_slot` | a pinned lane for other threads, and until its worker starts |
//! | `work_queue` | the queue of a lane that several workers take from |
//! | `wake` | the wake protocol: who waits, who has been woken, who must be |
//! | `completion_queue` | the completions of one worker, and its counters |
//! | `slot_table`, `shared_slot_table` | sockets by slot, of one lane or of several workers |
//! | `socket_core`, `receives` | the state of one socket; its pending receives |

pub(crate) mod blocking_pool;
pub(crate) mod completion_queue;
pub(crate) mod file_pool;
#[cfg(target_os = "linux")]
pub(crate) mod lane_remote;
#[cfg(target_os = "linux")]
pub(crate) mod lane_slot;
pub(crate) mod native_lanes;
pub(crate) mod native_port;
pub(crate) mod receives;
pub(crate) mod resolver;
pub(crate) mod services;
pub(crate) mod shared_slot_table;
pub(crate) mod slot_table;
pub(crate) mod socket_core;
pub(crate) mod socket_handle;
pub(crate) mod threads;
pub(crate) mod wake;
pub(crate) mod work_queue;
