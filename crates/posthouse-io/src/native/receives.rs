//! The receives that wait on a socket, in the order in which the system serves them.

use std::collections::VecDeque;

use crate::op::ReceiveMode;
use crate::token::Tag;

/// A waiting receive, with the backend's own state for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receive<S> {
    pub(crate) tag: Tag,
    pub(crate) mode: ReceiveMode,
    pub(crate) cancelled: bool,
    #[cfg_attr(target_os = "linux", expect(dead_code, reason = "a ring has nothing to say here"))]
    pub(crate) state: S,
}

/// The receives of one socket, at least one, in the order of their submission.
#[derive(Debug)]
pub(crate) enum Receives<S> {
    One(Receive<S>),
    /// There have been several.
    #[expect(clippy::box_collection, reason = "a socket's state must stay small, and this is rare")]
    Several(Box<VecDeque<Receive<S>>>),
}

impl<S: Copy> Receive<S> {
    pub(crate) fn new(tag: Tag, mode: ReceiveMode, state: S) -> Self {
        Self { tag, mode, cancelled: false, state }
    }
}

impl<S: Copy> Receives<S> {
    /// Adds a receive at the end. A stream is alone on its socket (asserted), except behind
    /// cancelled receives: those end soon, and then the stream begins.
    pub(crate) fn push(before: Option<Self>, receive: Receive<S>) -> Self {
        let check = |last: &Receive<S>| {
            let follows = (last.mode, receive.mode) == (ReceiveMode::Once, ReceiveMode::Once);
            assert!(last.cancelled || follows, "a stream of receives is alone on its socket");
        };
        match before {
            None => Self::One(receive),
            Some(Self::One(first)) => {
                check(&first);
                Self::Several(Box::new(VecDeque::from([first, receive])))
            }
            Some(Self::Several(mut all)) => {
                all.back().into_iter().for_each(check);
                all.push_back(receive);
                Self::Several(all)
            }
        }
    }

    /// Removes the receive at `index`, which must exist. Returns it and the remaining receives, if
    /// any.
    pub(crate) fn remove(self, index: usize) -> (Receive<S>, Option<Self>) {
        match self {
            Self::One(only) if index == 0 => (only, None),
            Self::Several(mut all) if index < all.len() => {
                let removed = all[index];
                all.remove(index);
                (removed, (!all.is_empty()).then_some(Self::Several(all)))
            }
            _ => panic!("no receive waits there"),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Receive<S>> {
        match self {
            Self::One(only) => (index == 0).then_some(only),
            Self::Several(all) => all.get(index),
        }
    }

    /// Returns an iterator over the receives, in the order of their submission.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Receive<S>> {
        let (one, several) = match self {
            Self::One(one) => (Some(one), None),
            Self::Several(all) => (None, Some(all.iter_mut())),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once(tag: u64) -> Receive<()> {
        Receive::new(Tag(tag), ReceiveMode::Once, ())
    }

    #[test]
    fn receives_are_taken_out_from_anywhere_and_the_others_keep_their_order() {
        let mut all = Receives::push(None, once(0));
        for tag in 1..4 {
            all = Receives::push(Some(all), once(tag));
        }
        let (removed, left) = all.remove(1);
        let mut left = left.expect("three");
        assert_eq!(removed.tag, Tag(1));
        assert!(left.iter_mut().map(|receive| receive.tag.0).eq([0, 2, 3]));
        let (_, left) = left.remove(0);
        let (_, left) = left.expect("two").remove(1);
        assert!(left.expect("one").remove(0).1.is_none());
    }

    #[test]
    #[should_panic(expected = "alone on its socket")]
    fn a_stream_is_alone() {
        let stream = Receive::new(Tag(0), ReceiveMode::Stream, ());
        Receives::push(Some(Receives::push(None, stream)), once(1));
    }
}
