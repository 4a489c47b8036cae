//! Name look-ups with the system's resolver, on threads of their own because it blocks.

use std::io;
use std::net::ToSocketAddrs;
use std::time::Duration;

use crate::address::{Address, Name};
use crate::error::{Error, Failure};
use crate::native::blocking_pool::{BlockingPool, Length, PoolLimits};
use crate::op::{Completion, Outcome};
use crate::token::Tag;

/// The number of look-ups that run at a time, each on a thread.
const MAX_THREADS: usize = 2;
/// The same number while name servers do not answer.
const MAX_THREADS_HUNG: usize = 8;
/// The time after which look-ups count as hung if none of them has ended.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of look-ups that wait for a thread; one more fails with
/// [`Failure::NoBuffers`].
const MAX_WAITING: usize = 256;

/// The pool of threads that looks up names.
#[derive(Debug)]
pub(crate) struct Resolver {
    pool: BlockingPool,
}

impl Default for Resolver {
    fn default() -> Self {
        let pool = BlockingPool::new(PoolLimits {
            name: "posthouse-names",
            max_threads: MAX_THREADS,
            max_threads_hung: MAX_THREADS_HUNG,
            max_long: MAX_THREADS,
            stall_timeout: STALL_TIMEOUT,
            max_waiting: MAX_WAITING,
        });
        Self { pool }
    }
}

impl Resolver {
    /// Looks up `name` and posts the completion from another thread. Returns the completion at once
    /// if the host is an IP address, or if the look-up cannot be made.
    pub(crate) fn look_up(
        &self,
        tag: Tag,
        name: Name,
        post: impl FnOnce(Completion) + Send + 'static,
    ) -> Option<Completion> {
        if let Some(address) = name.as_address() {
            return Some(terminal(tag, Outcome::Resolved(vec![address])));
        }
        if self.pool.try_spawn(Length::Short, move || post(terminal(tag, resolve(&name)))) {
            return None;
        }
        Some(terminal(tag, Outcome::Failed(Error::new(Failure::NoBuffers))))
    }
}

fn resolve(name: &Name) -> Outcome {
    match addresses_of(name) {
        Ok(addresses) => Outcome::Resolved(addresses),
        Err(error) => {
            let code = error.raw_os_error().unwrap_or(0);
            Outcome::Failed(Error { failure: Failure::NameNotFound, code })
        }
    }
}

/// Returns the addresses of a name from the system: at least one, each once. It blocks.
pub(crate) fn addresses_of(name: &Name) -> io::Result<Vec<Address>> {
    let mut addresses: Vec<Address> = Vec::new();
    // The system returns an address once for each of its sources.
    for address in (&*name.host, name.port).to_socket_addrs()?.map(Address::from) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

fn terminal(tag: Tag, outcome: Outcome) -> Completion {
    Completion { tag, more: false, outcome }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::sync::{Arc, Mutex, lock};

    fn localhost() -> Name {
        Name { host: "localhost".into(), port: 1 }
    }

    #[test]
    fn look_ups_beyond_the_bound_fail_at_once_and_the_others_are_made() {
        let resolver = Resolver::default();
        let (release, released) = channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let (tell, told) = channel();
        for _ in 0..MAX_THREADS {
            let tell = tell.clone();
            let released = released.clone();
            let at_once = resolver.look_up(Tag(0), localhost(), move |_| {
                let _ = tell.send(());
                let _ = lock(&released).recv();
            });
            assert!(at_once.is_none());
            assert_eq!(told.recv(), Ok(()), "a thread takes it");
        }
        let (post, posted) = channel();
        for n in 0..MAX_WAITING as u64 {
            let post = post.clone();
            let at_once = resolver.look_up(Tag(n), localhost(), move |done| {
                let _ = post.send(done);
            });
            assert!(at_once.is_none(), "there is room for {n}");
        }
        let one_more = resolver.look_up(Tag(999), localhost(), |_| panic!("not looked up"));
        let Some(Completion { tag: Tag(999), more: false, outcome }) = one_more else {
            panic!("a completion at once");
        };
        assert!(matches!(outcome, Outcome::Failed(e) if e.failure == Failure::NoBuffers));
        drop((release, post));
        assert_eq!(posted.iter().count(), MAX_WAITING, "each is posted once");
    }
}
