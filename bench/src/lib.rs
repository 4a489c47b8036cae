//! What the echo servers of the benchmark share, where sharing takes nothing from them: the native
//! frame and a listening socket. The measuring itself is `src/bin/runner`.

#![forbid(unsafe_code)]

pub mod frame;
pub mod listening;
pub mod scratch;
