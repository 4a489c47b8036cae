//! One worker: it begins connections, accepts them, and hands each completion to its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use posthouse_io::{Cancel, Completion, Failure, Lane, NewSocket, Op, Outcome, Turn};

use super::Campaign;
use super::end::{Check, End, Hands, Next};
use super::exchange::lock;
use super::figures::{Figure, Figures};
use super::house::{House, Post};
use super::random::Random;
use super::script::Side;
use super::tags::{Kind, Name, SEQUENCE_MASK};

pub(super) struct Worker {
    campaign: Arc<Campaign>,
    house: Arc<House>,
    figures: Figures,
    random: Random,
    /// Ends to visit in this step.
    visits: Vec<Name>,
    /// A connection that has its number and waits for its entry in the books.
    held_back: Option<u32>,
    /// True exactly when it has said that it is done.
    done: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.done {
            self.campaign.fault("a worker has ended by a panic".to_owned());
        }
        self.campaign.worker_ends(&self.figures);
    }
}

impl Worker {
    pub(super) fn new(campaign: Arc<Campaign>, house: Arc<House>, number: u64) -> Self {
        let random = Random::of([campaign.settings.plan.seed, number, 16]);
        Self {
            campaign,
            house,
            figures: Figures::default(),
            random,
            visits: Vec::new(),
            held_back: None,
            done: false,
        }
    }

    pub(super) fn step(&mut self, lane: &mut Lane) -> Turn {
        let turn = self.turn(lane).unwrap_or_else(|what| {
            self.campaign.fault(what);
            Turn::Done
        });
        self.done = turn == Turn::Done;
        turn
    }

    fn turn(&mut self, lane: &mut Lane) -> Check<Turn> {
        self.open_posts(lane);
        let moved = std::mem::take(&mut *lock(&self.house.moved));
        for new in moved {
            self.serve(new, lane)?;
        }
        while let Some(completion) = lane.next_completion() {
            self.complete(completion, lane)?;
        }
        for name in std::mem::take(&mut self.visits) {
            self.visit(name, lane)?;
        }
        self.begin_clients(lane)?;
        if self.campaign.is_at_its_end() {
            self.close_posts(lane);
        }
        if self.campaign.is_over() {
            return Ok(Turn::Done);
        }
        Ok(match (self.visits.is_empty(), self.held_back) {
            (false, _) => Turn::Again,
            (true, None) => Turn::Sleep(None),
            (true, Some(_)) => Turn::Sleep(Some(Duration::from_millis(10))),
        })
    }

    fn complete(&mut self, completion: Completion, lane: &mut Lane) -> Check {
        let (name, kind, sequence) = Name::of(completion.tag);
        self.figures.add(Figure::Completed, (!completion.more).into());
        match kind {
            Kind::Accept => return self.accepted(name, sequence, completion, lane),
            Kind::Unlisten => {
                self.campaign.post_ends();
                return Ok(());
            }
            Kind::Connect | Kind::Send | Kind::Receive | Kind::Close => {}
        }
        self.with_end(name, lane, true, |end, hands| {
            end.complete(kind, sequence, completion, hands)
        })
    }

    fn visit(&mut self, name: Name, lane: &mut Lane) -> Check {
        self.with_end(name, lane, false, |end, hands| {
            end.listed = false;
            end.proceed(hands)
        })
    }

    /// Calls an end, which must be there if it `must`, and sees to what it says.
    fn with_end(
        &mut self,
        name: Name,
        lane: &mut Lane,
        must: bool,
        call: impl FnOnce(&mut End, &mut Hands<'_>) -> Check<Next>,
    ) -> Check {
        let mut place = lock(self.house.place(name.slot));
        let end = match must {
            true => place.end(name)?,
            false => match place.find(name) {
                Some(end) => end,
                None => return Ok(()),
            },
        };
        let mut hands = Hands { lane, campaign: &self.campaign, figures: &mut self.figures };
        let next = call(end, &mut hands).map_err(|what| {
            format!("connection {}, {:?}: {what}\n  {end:?}", end.number, end.side)
        })?;
        match next {
            Next::Wait => {}
            Next::Visit => {
                if !std::mem::replace(&mut end.listed, true) {
                    self.visits.push(name);
                }
            }
            Next::Over => {
                let (number, side, account) = (end.number, end.side, end.account);
                self.house.leave(&mut place);
                drop(place);
                if side == Side::Client {
                    self.house.clients.fetch_sub(1, Ordering::Relaxed);
                }
                return self.campaign.end_is_over(number, side, account);
            }
        }
        Ok(())
    }
}

/// Connecting ends.
impl Worker {
    fn begin_clients(&mut self, lane: &mut Lane) -> Check {
        let limit = self.campaign.clients_of_lane();
        while self.held_back.is_some() || self.house.clients.load(Ordering::Relaxed) < limit {
            let Some(number) = self.held_back.take().or_else(|| self.campaign.next_number()) else {
                break;
            };
            if !self.campaign.exchanges.begin(number)? {
                self.held_back = Some(number);
                break;
            }
            self.house.clients.fetch_add(1, Ordering::Relaxed);
            self.figures.count(Figure::Clients);
            let to = self.campaign.address_of(number);
            let socket = lane.socket();
            let name = self.house.take()?;
            self.move_in(number, Side::Client, name, socket);
            self.with_end(name, lane, true, |end, hands| {
                end.connect(to, hands);
                end.proceed(hands)
            })?;
        }
        Ok(())
    }

    fn move_in(&self, number: u32, side: Side, name: Name, socket: posthouse_io::Socket) {
        let (plan, ordered) = (self.campaign.settings.plan, self.campaign.settings.is_ordered());
        let end = End::new(plan, (number, side), name, socket, ordered);
        lock(self.house.place(name.slot)).end = Some(Box::new(end));
    }
}

/// Listeners, and the ends that they bring.
impl Worker {
    fn open_posts(&mut self, lane: &mut Lane) {
        for (index, post) in self.house.clone().posts.iter().enumerate() {
            let mut post = lock(post);
            if let Some(listener) = post.listener.take() {
                post.socket = Some(lane.adopt_listener(listener));
                self.accept(index, &mut post, lane);
            }
        }
    }

    fn accept(&mut self, index: usize, post: &mut Post, lane: &mut Lane) {
        let socket = post.socket.expect("a post that is open");
        let sequence = post.next_sequence;
        post.next_sequence = (sequence + 1) & SEQUENCE_MASK;
        post.accept = Some(sequence);
        post.cancelled = false;
        self.submit(index, Kind::Accept, sequence, Op::Accept(socket), lane);
    }

    fn submit(&mut self, index: usize, kind: Kind, sequence: u16, op: Op, lane: &mut Lane) {
        self.figures.count(Figure::Submitted);
        let name = Name { slot: index as u32, generation: 0 };
        lane.submit(name.tag(kind, sequence), op);
    }

    fn accepted(
        &mut self,
        name: Name,
        sequence: u16,
        completion: Completion,
        lane: &mut Lane,
    ) -> Check {
        let (house, index) = (self.house.clone(), name.slot as usize);
        let mut post = lock(&house.posts[index]);
        // With several workers on a lane one can be busy with a peer when another sees the end.
        let belated = completion.more && !self.campaign.settings.is_ordered();
        if post.accept != Some(sequence) && !belated {
            return Err(format!("an accept that is over has come to {:?}", completion.outcome));
        }
        match completion.outcome {
            Outcome::Accepted(new) if completion.more => {
                let serves = post.serves;
                if post.accept.is_some() && !post.cancelled && self.random.one_in(512) {
                    self.figures.count(Figure::AcceptsAgain);
                    Self::cancel_accept(&mut post, lane);
                }
                drop(post);
                self.take_in(*new, serves, lane)
            }
            Outcome::Failed(error) if !completion.more => {
                if error.failure != Failure::Cancelled && !error.is_transient() || !post.cancelled {
                    return Err(format!("an accept failed without a cause: {error}"));
                }
                post.accept = None;
                if post.closing {
                    let socket = post.socket.take().expect("a post that is open");
                    self.submit(index, Kind::Unlisten, 0, Op::Close(socket), lane);
                } else {
                    self.accept(index, &mut post, lane);
                }
                Ok(())
            }
            other => Err(format!("an accept has come to {other:?}")),
        }
    }

    fn cancel_accept(post: &mut Post, lane: &mut Lane) {
        post.cancelled = true;
        lane.cancel(post.socket.expect("a post that is open"), Cancel::Everything);
    }

    fn close_posts(&self, lane: &mut Lane) {
        for post in &self.house.posts {
            let mut post = lock(post);
            if !post.closing {
                post.closing = true;
                if !post.cancelled {
                    Self::cancel_accept(&mut post, lane);
                }
            }
        }
    }

    fn take_in(&mut self, new: NewSocket, serves: bool, lane: &mut Lane) -> Check {
        if !serves {
            self.figures.count(Figure::TurnedAway);
            match self.random.one_in(2) {
                true => new.refuse(),
                false => drop(new),
            }
            return Ok(());
        }
        self.campaign.end_begins();
        if self.random.one_in(8) {
            self.figures.count(Figure::Moved);
            self.campaign.move_peer(new, self.random.next());
            return Ok(());
        }
        self.serve(new, lane)
    }

    fn serve(&mut self, new: NewSocket, lane: &mut Lane) -> Check {
        let socket = lane.adopt(new);
        let address = lane.local_address(socket).ok_or("an accepted peer without an address")?;
        let number = Campaign::number_of(address)?;
        self.campaign.exchanges.join(number)?;
        self.figures.count(Figure::Served);
        let name = self.house.take()?;
        self.move_in(number, Side::Server, name, socket);
        self.with_end(name, lane, true, End::proceed)
    }
}
