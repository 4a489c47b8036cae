//! The common parts of the benchmark's echo servers, as far as sharing does not slow them down: the
//! native frame, the listening socket and the receive buffer. `src/bin/runner` performs the
//! measurements.

#![forbid(unsafe_code)]

pub mod frame;
pub mod listening;
pub mod scratch;
