//! What only a real Linux can show.
