//! Host name look-ups.

use posthouse_io::{Address, Failure, Name, Op, Outcome};

use crate::harness::Harness;

fn resolve(harness: &Harness, host: &str, port: u16) -> Outcome {
    let name = Name { host: host.into(), port };
    harness.outcome(harness.submit(harness.lane(1), Op::Resolve(name)))
}

pub fn an_address_needs_no_look_up(harness: &Harness) {
    for text in ["10.1.2.3:77", "[::1]:9990"] {
        let expected: Address = text.parse().expect("an address");
        let name: Name = text.parse().expect("a name");
        match resolve(harness, &name.host, name.port) {
            Outcome::Resolved(addresses) => assert_eq!(addresses, [expected]),
            other => panic!("one address, not {other:?}"),
        }
    }
}

pub fn localhost_is_this_machine(harness: &Harness) {
    match resolve(harness, "localhost", 1234) {
        Outcome::Resolved(addresses) => {
            assert!(!addresses.is_empty());
            assert!(addresses.iter().all(|a| a.is_loopback() && a.port() == 1234), "{addresses:?}");
        }
        other => panic!("addresses, not {other:?}"),
    }
}

pub fn a_name_that_does_not_exist_is_not_found(harness: &Harness) {
    // The label has 64 characters, so a resolver rejects it without a query.
    let host = format!("{}.invalid", "x".repeat(64));
    match resolve(harness, &host, 1) {
        Outcome::Failed(error) => assert_eq!(error.failure, Failure::NameNotFound),
        other => panic!("not found, not {other:?}"),
    }
}

pub fn many_look_ups_at_once_all_end(harness: &Harness) {
    let tags: Vec<_> = (0..40)
        .map(|n| {
            let host = if n % 2 == 0 { "localhost" } else { "10.9.8.7" };
            harness.submit(harness.lane(n), Op::Resolve(Name { host: host.into(), port: 1 }))
        })
        .collect();
    for tag in tags {
        assert!(matches!(harness.outcome(tag), Outcome::Resolved(_)));
    }
}

pub fn a_cancelled_look_up_ends_once(harness: &Harness) {
    for n in 0..20 {
        let lane = harness.lane(n);
        let driver = harness.driver.clone();
        let [cancelled, other] = harness.on(lane, move |lane| {
            let tags = [(); 2].map(|()| {
                let name = Name { host: "localhost".into(), port: 1 };
                driver.submit(lane, Op::Resolve(name))
            });
            lane.cancel_look_up(tags[0]);
            tags
        });
        match harness.outcome(cancelled) {
            Outcome::Resolved(_) => {}
            Outcome::Failed(error) => assert_eq!(error.failure, Failure::Cancelled),
            other => panic!("addresses or cancelled, not {other:?}"),
        }
        assert!(matches!(harness.outcome(other), Outcome::Resolved(_)));
        // The look-up is not in flight any more, so this does nothing.
        harness.on(lane, move |lane| lane.cancel_look_up(cancelled));
    }
}
