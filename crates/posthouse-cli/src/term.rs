//! The texts that people read and type: lines, bars, sizes, times, and names that are safe on a
//! terminal.

pub(crate) mod hints;
pub(crate) mod plot;
pub(crate) mod stdout;
pub(crate) mod terminal;
pub(crate) mod timestamp;
pub(crate) mod units;
