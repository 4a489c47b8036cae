//! The planted mistakes: each breaks one contract in one place.

use super::Mistake;

pub(super) const PLANTED: &[Mistake] = &[];
