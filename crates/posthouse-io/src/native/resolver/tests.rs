//! Tests of the resolver with a system whose name servers answer when the test wants.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;

const PATIENCE: Duration = Duration::from_mins(1);

/// A resolver with the ends that the test holds.
struct Fixture {
    resolver: Resolver,
    /// Dropping it lets the hosts that hang end.
    release: Sender<()>,
    /// The hosts that were looked up.
    asked: Receiver<String>,
    tell: Sender<Completion>,
    told: Receiver<Completion>,
}

impl Fixture {
    fn new(stall_timeout: Duration) -> Self {
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let (ask, asked) = channel();
        let resolve = move |host: &str| {
            let _ = ask.send(host.to_owned());
            if host.starts_with("hangs") {
                let _ = lock(&released).recv();
            }
            Ok(vec!["10.0.0.1:0".parse().expect("an address")])
        };
        let (tell, told) = channel();
        Self { resolver: Resolver::with(resolve, stall_timeout), release, asked, tell, told }
    }

    /// Begins a look-up; its tag is its port. Returns the failure that it has at once.
    fn look_up(&self, host: &str, port: u16) -> Option<Failure> {
        let tell = self.tell.clone();
        let name = Name { host: host.into(), port };
        let at_once = self.resolver.look_up(Tag(port.into()), &name, move |completion| {
            let _ = tell.send(completion);
        });
        at_once.map(|completion| match completion.outcome {
            Outcome::Failed(error) => error.failure,
            other => panic!("a failure, not {other:?}"),
        })
    }

    fn cancel(&self, port: u16) -> bool {
        let cancelled = self.resolver.cancel(Tag(port.into()));
        if let Some(Completion { tag, more, outcome }) = &cancelled {
            assert_eq!((*tag, *more), (Tag(port.into()), false));
            let failure = Failure::Cancelled;
            assert!(matches!(outcome, Outcome::Failed(error) if error.failure == failure));
        }
        cancelled.is_some()
    }

    fn asked(&self) -> String {
        self.asked.recv_timeout(PATIENCE).expect("a thread looks it up")
    }

    /// Returns the port of the next look-up that succeeds.
    fn found(&self) -> u16 {
        let Completion { tag, more, outcome } = self.told.recv_timeout(PATIENCE).expect("it ends");
        assert!(!more);
        let Outcome::Resolved(addresses) = outcome else { panic!("addresses, not {outcome:?}") };
        assert_eq!(Tag(addresses[0].port().into()), tag);
        addresses[0].port()
    }

    /// Lets all hosts end. Returns the ports of the look-ups that succeed, in order.
    fn found_when_released(self) -> Vec<u16> {
        let Self { resolver, release, tell, told, asked } = self;
        drop((release, tell));
        let mut ports: Vec<_> = told
            .iter()
            .map(|completion| match completion.outcome {
                Outcome::Resolved(addresses) => addresses[0].port(),
                other => panic!("addresses, not {other:?}"),
            })
            .collect();
        drop((resolver, asked));
        ports.sort_unstable();
        ports
    }
}

#[test]
fn a_host_that_hangs_delays_no_other() {
    let fixture = Fixture::new(STALL_TIMEOUT);
    for port in 1..=30 {
        assert_eq!(fixture.look_up(&format!("hangs-{port}"), port), None);
    }
    assert_eq!(fixture.look_up("good", 31), None);
    assert_eq!(fixture.found(), 31);
    assert_eq!(fixture.found_when_released(), (1..=30).collect::<Vec<_>>());
}

#[test]
fn equal_hosts_share_one_look_up() {
    let fixture = Fixture::new(Duration::ZERO);
    for port in 1..=200 {
        assert_eq!(fixture.look_up("hangs", port), None);
    }
    assert_eq!(fixture.asked(), "hangs");
    assert_eq!(lock(&fixture.resolver.shared.state).threads, 1);
    assert!(fixture.asked.try_recv().is_err(), "it is looked up once");
    assert_eq!(fixture.found_when_released(), (1..=200).collect::<Vec<_>>());
}

#[test]
fn a_cancelled_look_up_ends_at_once_and_its_late_answer_is_dropped() {
    let fixture = Fixture::new(STALL_TIMEOUT);
    for port in 1..=3 {
        assert_eq!(fixture.look_up("hangs", port), None);
    }
    assert_eq!(fixture.asked(), "hangs");
    assert!(fixture.cancel(1));
    assert!(!fixture.cancel(1), "it ends once");
    assert!(fixture.cancel(3));
    assert_eq!(fixture.found_when_released(), [2]);

    let fixture = Fixture::new(STALL_TIMEOUT);
    assert_eq!(fixture.look_up("good", 1), None);
    assert_eq!(fixture.found(), 1);
    assert!(!fixture.cancel(1), "it had ended");
}

#[test]
fn while_all_threads_hang_further_hosts_fail_with_a_text_that_says_so() {
    let fixture = Fixture::new(Duration::ZERO);
    let most = MAX_LOOK_UPS as u16;
    for port in 1..=most {
        assert_eq!(fixture.look_up(&format!("hangs-{port}"), port), None);
    }
    assert_eq!(fixture.look_up("good", 100), Some(Failure::NamesHang));
    let text = Error::new(Failure::NamesHang).to_string();
    assert_eq!(text, "64 name look-ups hang: the name servers do not answer");
    (0..most).for_each(|_| drop(fixture.asked()));
    // The thread is still occupied when nobody waits for it any more.
    assert!(fixture.cancel(1));
    assert_eq!(fixture.look_up("good", 100), Some(Failure::NamesHang));
    // A host that hangs already needs no further thread.
    assert_eq!(fixture.look_up("hangs-1", 101), None);
    let mut all: Vec<_> = (2..=most).collect();
    all.push(101);
    assert_eq!(fixture.found_when_released(), all);
}

#[test]
fn while_look_ups_end_further_hosts_wait_for_a_thread() {
    let fixture = Fixture::new(Duration::MAX);
    let most = (MAX_LOOK_UPS + MAX_WAITING) as u16;
    for port in 1..=most {
        assert_eq!(fixture.look_up(&format!("hangs-{port}"), port), None);
    }
    assert_eq!(fixture.look_up("one-more", 1000), Some(Failure::NoBuffers));
    // A host that nobody waits for any more gives its place to another, and is not looked up.
    assert!(fixture.cancel(most));
    assert_eq!(fixture.look_up("one-more", 1000), None);
    let mut all: Vec<_> = (1..most).collect();
    all.push(1000);
    let last = format!("hangs-{most}");
    let Fixture { resolver, release, asked, tell, told } = fixture;
    drop((release, tell));
    let mut found: Vec<_> = told.iter().map(|completion| completion.tag.0 as u16).collect();
    found.sort_unstable();
    assert_eq!(found, all);
    drop(resolver);
    assert!(asked.iter().all(|host| host != last));
}

#[test]
fn a_caller_gets_the_addresses_with_its_port_or_an_error_in_time() {
    let fixture = Fixture::new(STALL_TIMEOUT);
    let name = Name { host: "good".into(), port: 99 };
    let found = fixture.resolver.look_up_and_wait(&name, PATIENCE).expect("addresses");
    assert_eq!(found, ["10.0.0.1:99".parse().expect("an address")]);
    let name = Name { host: "hangs".into(), port: 99 };
    let late = fixture.resolver.look_up_and_wait(&name, Duration::ZERO).expect_err("it hangs");
    assert_eq!(late.kind(), io::ErrorKind::TimedOut);
    assert_eq!(late.to_string(), "the host name could not be looked up in 10 s");
    assert!(lock(&fixture.resolver.shared.state).hosts.is_empty(), "nobody waits any more");
}
