//! The common parts of the benchmark. The echo servers share the native frame, the listening socket
//! and the receive buffer, as far as sharing does not slow them down. The programs that measure
//! (`src/bin/runner`, `src/bin/files` and `src/bin/siege`) share the machine, the processes and the
//! statistics.

#![forbid(unsafe_code)]

pub mod frame;
pub mod listening;
pub mod machine;
pub mod processes;
pub mod scratch;
pub mod statistics;
