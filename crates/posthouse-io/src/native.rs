//! The parts of a port that all backends of a real system share.
//!
//! | file | content |
//! |---|---|
//! | `native_port` | the port: its lanes, and their start, wake-ups and counters |
//! | `native_lanes` | the trait that the lanes of each backend implement |
//! | `services` | the part of the port that its lanes use: clock, buffers, look-ups, files |
//! | `threads`, `blocking_pool` | threads of workers; threads for tasks that block |
//! | `file_pool`, `resolver` | file operations and name look-ups on such threads |
//! | `socket_handle` | the handles of sockets, also of those that no lane has registered yet |
//! | `lane_remote`, `lane_slot` | the remote side of a pinned lane; the slot of its worker |
//! | `work_queue` | the queue of a lane that several workers take from |
//! | `wake` | the wake protocol between waiting workers and other threads |
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
