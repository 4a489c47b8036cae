//! Where the ends of a lane live: places that are taken, left, and taken again by others.

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use posthouse_io::{LaneId, Listener, NewSocket, Socket};

use super::end::{Check, End};
use super::exchange::lock;
use super::tags::Name;

/// The ends and the listeners of one lane. In the shared layout all workers have it in common.
pub(super) struct House {
    pub(super) lane: LaneId,
    pub(super) posts: Vec<Mutex<Post>>,
    /// Peers that another lane has accepted for this one.
    pub(super) moved: Mutex<Vec<NewSocket>>,
    /// Connecting ends that live here.
    pub(super) clients: AtomicUsize,
    places: Box<[Mutex<Place>]>,
    vacant: Mutex<Vec<u32>>,
}

/// A place for an end.
pub(super) struct Place {
    name: Name,
    pub(super) end: Option<Box<End>>,
}

/// A listener and its accept.
pub(super) struct Post {
    /// Until a worker has registered it.
    pub(super) listener: Option<Listener>,
    pub(super) socket: Option<Socket>,
    /// The accept in flight.
    pub(super) accept: Option<u16>,
    pub(super) next_sequence: u16,
    /// True exactly when the accept has been asked to end.
    pub(super) cancelled: bool,
    /// True exactly when the post is to be closed after that.
    pub(super) closing: bool,
    pub(super) serves: bool,
}

impl Post {
    pub(super) fn new(listener: Listener, serves: bool) -> Mutex<Self> {
        Mutex::new(Self {
            listener: Some(listener),
            socket: None,
            accept: None,
            next_sequence: 0,
            cancelled: false,
            closing: false,
            serves,
        })
    }
}

impl Place {
    /// The end of this name, which must be living here.
    pub(super) fn end(&mut self, name: Name) -> Check<&mut End> {
        if self.name != name || self.end.is_none() {
            return Err(format!(
                "a completion for an end that is over: {name:?}, and there is {:?}: {:?}",
                self.name, self.end
            ));
        }
        Ok(self.end.as_deref_mut().expect("just looked"))
    }

    /// The same; none where it has gone.
    pub(super) fn find(&mut self, name: Name) -> Option<&mut End> {
        self.end.as_deref_mut().filter(|_| self.name == name)
    }
}

impl House {
    pub(super) fn new(lane: LaneId, places: u32, posts: Vec<Mutex<Post>>) -> Self {
        let place = |slot| Mutex::new(Place { name: Name { slot, generation: 0 }, end: None });
        Self {
            lane,
            posts,
            moved: Mutex::default(),
            clients: AtomicUsize::new(0),
            places: (0..places).map(place).collect(),
            vacant: Mutex::new((0..places).rev().collect()),
        }
    }

    /// A vacant place, and the name of who takes it.
    pub(super) fn take(&self) -> Check<Name> {
        let slot = lock(&self.vacant).pop().ok_or("more ends than a process has descriptors")?;
        Ok(lock(self.place(slot)).name)
    }

    pub(super) fn place(&self, slot: u32) -> &Mutex<Place> {
        &self.places[slot as usize]
    }

    /// The end of this place is over.
    pub(super) fn leave(&self, place: &mut Place) {
        place.end = None;
        place.name = place.name.successor();
        lock(&self.vacant).push(place.name.slot);
    }

    /// What lives here, the first of it.
    pub(super) fn describe(&self, text: &mut String) {
        let living =
            |place: &&Mutex<Place>| place.try_lock().is_ok_and(|place| place.end.is_some());
        let count = self.places.iter().filter(living).count();
        let clients = self.clients.load(Ordering::Relaxed);
        let _ = writeln!(text, "{:?}: {count} ends, {clients} of them connecting", self.lane);
        for place in self.places.iter().filter(living).take(5) {
            if let Ok(place) = place.try_lock() {
                let _ = writeln!(text, "  {:?}", place.end);
            }
        }
    }
}
