//! Parcels on their way: handed over a few at a time, told of when they are over, tried again when
//! what kept them passes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use posthouse::{Progress, Transfer, TransferError, TransferErrorKind};

use super::account::{Account, End};
use super::parcel::{Manifest, Next, Parcel, Way};
use super::rider::Event;
use super::screen::Screen;
use super::{Courier, GivenUp, Link, retry};

/// Parcels handed over at the same time: as many as a server takes at once, by its default.
const IN_HAND_MAX: usize = 16;
/// Parcels that wait for another attempt; while they are so many no new one is begun.
const AGAIN_MAX: usize = 64;
/// A file that is found changed, or arrives changed, is tried so often: one that is written to all
/// the time would never be done.
const CHANGED_MAX: u32 = 5;
/// How often the bars move.
const BARS_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked whether anything moves, where there are no bars.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A parcel, and what came of it so far.
struct Trial {
    parcel: Parcel,
    /// Attempts that failed while the connection stood.
    failed: u32,
    /// How far it had come at best.
    best: u64,
    /// Of the last attempt.
    progress: Option<Progress>,
}

/// A parcel that is handed over.
struct Flight {
    trial: Trial,
    since: Instant,
}

/// What is carried, where that is written down, and what is under way.
struct Round<'a> {
    manifest: &'a mut dyn Manifest,
    account: &'a mut Account,
    screen: &'a mut Screen,
    flights: BTreeMap<u64, Flight>,
    /// What is tried again, not before then.
    again: Vec<(Instant, Trial)>,
    /// The last number of a flight.
    number: u64,
    /// True exactly when nothing more is taken from the manifest.
    ended: bool,
}

impl Courier {
    /// Carries everything; what comes of each parcel goes into the account. A person who wants it
    /// to end gets what is under way finished within `finishing`. Gives how it ended, and how many
    /// parcels are left.
    pub(crate) fn carry(
        &mut self,
        manifest: &mut dyn Manifest,
        account: &mut Account,
        screen: &mut Screen,
        finishing: Duration,
    ) -> (End, usize) {
        let (flights, again) = (BTreeMap::new(), Vec::new());
        let mut round =
            Round { manifest, account, screen, flights, again, number: 0, ended: false };
        let end = match self.carry_on(&mut round, finishing) {
            Ok(end) => end,
            Err(GivenUp { why, passing }) if self.was_up => {
                round.account.passing |= passing;
                End::GaveUp(why)
            }
            Err(GivenUp { why, .. }) => End::NotBegun(why),
        };
        let left = round.held() + round.manifest.left();
        round.break_off(&end);
        (end, left)
    }

    fn carry_on(&mut self, round: &mut Round<'_>, finishing: Duration) -> Result<End, GivenUp> {
        let period = if round.screen.shows_bars() { BARS_EVERY } else { LOOK_EVERY };
        let mut look_at = Instant::now();
        let mut end_at = None;
        loop {
            let now = Instant::now();
            if self.interrupted && end_at.is_none() {
                end_at = Some(now + finishing);
                round.ended = true;
            }
            if end_at.is_some_and(|end| now >= end || round.flights.is_empty()) {
                return Ok(End::Interrupted);
            }
            let mut until = self.tend(now)?;
            if end_at.is_none() {
                until = earliest(until, self.hand_over(round, now));
                if round.ended && round.held() == 0 {
                    return Ok(End::Done);
                }
            }
            if now >= look_at {
                look_at = now + period;
                if round.has_moved() {
                    self.progressed(round.screen);
                }
                round.show(now);
            }
            until = earliest(earliest(until, Some(look_at)), end_at);
            if let Some(event) = self.wait(until) {
                self.on_event(round, event)?;
            }
        }
    }

    /// Hands over what there is room for; when to look again.
    fn hand_over(&mut self, round: &mut Round<'_>, now: Instant) -> Option<Instant> {
        let Link::Up(peer) = self.link else { return None };
        let way = round.account.way();
        let mut batch = Vec::new();
        let mut later = None;
        while round.flights.len() < IN_HAND_MAX {
            match round.next(now) {
                Ok(trial) => {
                    round.number += 1;
                    batch.push((round.number, trial.parcel.clone()));
                    let flight = Flight { trial, since: now };
                    round.flights.insert(round.number, flight);
                }
                Err(at) => {
                    later = at;
                    break;
                }
            }
        }
        if batch.is_empty() {
            return later;
        }
        let numbers: Vec<u64> = batch.iter().map(|(number, _)| *number).collect();
        let teller = self.teller.clone();
        let handed = self.run(peer, move |peer| {
            for (number, Parcel { directory, path, name }) in batch {
                let progress = match way {
                    Way::Send => peer.offer_as(&directory, &path, &name),
                    Way::Get => peer.get_as(&directory, &name, &path),
                };
                // Refused where nobody waits any more.
                let _ = teller.send(Event::Begun(number, progress));
            }
        });
        if !handed {
            // Too much waits for the connection's worker.
            for number in numbers {
                let flight = round.flights.remove(&number).expect("just entered");
                round.again.push((now + retry::pause(1), flight.trial));
            }
        }
        later
    }

    fn on_event(&mut self, round: &mut Round<'_>, event: Event) -> Result<(), GivenUp> {
        match event {
            Event::Begun(number, progress) => {
                if let Some(flight) = round.flights.get_mut(&number) {
                    flight.trial.progress = Some(progress);
                }
                Ok(())
            }
            Event::Over(transfer) => match round.take(transfer.progress()) {
                Some(flight) => self.on_over(round, flight, &transfer),
                None => Ok(()),
            },
            Event::Down(why) => {
                // What was handed over and not begun is lost with the connection.
                let now = Instant::now();
                let lost = std::mem::take(&mut round.flights).into_values();
                round.again.extend(lost.map(|flight| (now, flight.trial)));
                self.on_down(round.screen, &why)
            }
            Event::Up | Event::Listed(_) | Event::Interrupted => Ok(()),
        }
    }

    fn on_over(
        &mut self,
        round: &mut Round<'_>,
        flight: Flight,
        transfer: &Transfer,
    ) -> Result<(), GivenUp> {
        let (now, progress) = (Instant::now(), transfer.progress());
        let time = now.saturating_duration_since(flight.since);
        let mut trial = flight.trial;
        let error = match transfer.result() {
            Ok(hash) => {
                round.account.done(round.screen, progress, hash, time);
                round.manifest.over(&trial.parcel);
                self.progressed(round.screen);
                return Ok(());
            }
            Err(error) => error,
        };
        if progress.moved() > trial.best {
            trial.best = progress.moved();
            self.progressed(round.screen);
        }
        if let TransferErrorKind::Disconnected | TransferErrorKind::Unsupported = error.kind() {
            round.again.push((now, trial));
            if error.kind() == TransferErrorKind::Disconnected {
                return Ok(());
            }
            let why = format!("{} cannot transfer files: {error}", self.target);
            return Err(GivenUp { why, passing: false });
        }
        trial.failed += 1;
        if may_pass(error, trial.failed) && self.attempts.may_go_on(now) {
            round.again.push((now + retry::pause(trial.failed), trial));
            return Ok(());
        }
        round.account.passing |= error.is_passing();
        round.account.failed(round.screen, transfer.name(), Some((progress, time)), error);
        round.manifest.over(&trial.parcel);
        if !error.is_passing() {
            // Whoever says no to one file after the other is there.
            self.progressed(round.screen);
        }
        Ok(())
    }
}

impl Round<'_> {
    /// How many parcels are neither still in the manifest nor over.
    fn held(&self) -> usize {
        self.flights.len() + self.again.len()
    }

    /// The parcel that comes next, or when to look again.
    fn next(&mut self, now: Instant) -> Result<Trial, Option<Instant>> {
        if let Some(place) = self.again.iter().position(|(at, _)| *at <= now) {
            return Ok(self.again.swap_remove(place).1);
        }
        let at = self.again.iter().map(|(at, _)| *at).min();
        if self.ended || self.again.len() >= AGAIN_MAX {
            return Err(at);
        }
        loop {
            match self.manifest.next(now) {
                Next::Parcel(parcel) => {
                    return Ok(Trial { parcel, failed: 0, best: 0, progress: None });
                }
                Next::Skipped(name, why) => self.account.skipped(self.screen, &name, why),
                Next::Failed(name, why) => self.account.failed(self.screen, &name, None, why),
                Next::At(later) => return Err(earliest(at, Some(later))),
                Next::End => {
                    self.ended = true;
                    return Err(at);
                }
            }
        }
    }

    /// Whether anything has come further than ever before.
    fn has_moved(&mut self) -> bool {
        let mut moved = false;
        for Flight { trial, .. } in self.flights.values_mut() {
            let now = trial.progress.as_ref().map_or(0, Progress::moved);
            moved |= now > trial.best;
            trial.best = trial.best.max(now);
        }
        moved
    }

    /// What was begun is not finished.
    fn break_off(self, end: &End) {
        let why = match end {
            End::Done => return,
            End::Interrupted => "interrupted",
            End::NotBegun(why) | End::GaveUp(why) => why,
        };
        let flights = self.flights.into_values().map(|flight| flight.trial);
        for Trial { parcel, progress, .. } in flights.chain(self.again.into_iter().map(|it| it.1)) {
            self.account.broken_off(self.screen, &parcel.name, progress.as_ref(), why);
        }
    }

    fn take(&mut self, progress: &Progress) -> Option<Flight> {
        let is_it = |flight: &Flight| flight.trial.progress.as_ref() == Some(progress);
        let number = self.flights.iter().find_map(|(number, it)| is_it(it).then_some(*number))?;
        self.flights.remove(&number)
    }

    fn show(&mut self, now: Instant) {
        let flights = self.flights.iter();
        let moving = flights.filter_map(|(number, flight)| {
            let time = now.saturating_duration_since(flight.since);
            Some((*number, time, flight.trial.progress.as_ref()?))
        });
        if self.account.files_all > 0 {
            let (files, bytes) = self.account.over();
            let moved: u64 = moving.clone().map(|(_, _, progress)| progress.moved()).sum();
            let files = (files, self.account.files_all);
            self.screen.show_all(files, bytes + moved, self.account.bytes_all);
        }
        self.screen.show_files(moving);
    }
}

/// Whether another attempt makes sense after so many that failed.
fn may_pass(error: &TransferError, failed: u32) -> bool {
    let changed =
        matches!(error.kind(), TransferErrorKind::Changed | TransferErrorKind::HashDiffers);
    error.is_passing() && (!changed || failed < CHANGED_MAX)
}

fn earliest(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    [one, other].into_iter().flatten().min()
}
