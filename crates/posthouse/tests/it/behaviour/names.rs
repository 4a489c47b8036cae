//! Host names whose name servers do not answer: the look-up of the system cannot be cancelled, but
//! it holds up nothing.

use std::time::Duration;

use posthouse::{ConnectionOptions, DisconnectKind, Target};

use crate::harness::{Harness, in_simulation};
use crate::probe::{Line, Probe};

/// The maximum number of hosts that an endpoint looks up at a time.
const MOST: usize = 64;
const HANG: &str = "64 name look-ups hang: the name servers do not answer";

fn to(host: &str, timeout: Duration) -> Target {
    let ms = timeout.as_millis() as u64;
    let options = ConnectionOptions::default().with_connect_timeout_ms(ms);
    Target::new(format!("{host}:9990").as_str()).options(options)
}

/// Connects to hosts that hang, to one that does not, and to more of them than may hang.
/// `stalled` is a time after which look-ups count as hung.
fn names_that_hang(harness: &Harness<'_>, stalled: Duration, good: &str) {
    let address = if harness.is_real() { "127.0.0.1:0" } else { "10.0.0.1:9990" };
    let server = harness.serve_at(Probe::echo(), address);
    let probe = Probe::new();
    let seen = probe.seen();
    let endpoint = harness.client_side(probe);
    let connect = |target| endpoint.connect(target, Line::default()).expect("no limit is reached");
    // Equal names share a look-up, and each connection ends at its own time.
    let patient = connect(to("hangs-0.example", Duration::from_mins(30)));
    for _ in 0..20 {
        connect(to("hangs-0.example", Duration::from_millis(300)));
    }
    harness.wait_for("the deadline", || seen.connect_failures().len() == 20);
    for why in seen.connect_failures() {
        assert_eq!(why.kind(), DisconnectKind::Unreachable);
        assert!(why.to_string().contains("could not be looked up in time"), "{why}");
    }
    harness.wait_for("the release of the slots", || endpoint.stats().connections == 1);

    // Another name is looked up meanwhile.
    let port = server.addresses()[0].port();
    let near = Target::new(format!("{good}:{port}").as_str());
    connect(near);
    harness.wait_for("the connection", || seen.connected().len() == 1);

    for number in 1..MOST {
        connect(to(&format!("hangs-{number}.example"), stalled));
    }
    harness.wait_for("all deadlines", || seen.connect_failures().len() == 20 + MOST - 1);
    connect(to("one-more.example", Duration::from_mins(30)));
    harness.wait_for("the bound", || seen.connect_failures().len() == 20 + MOST);
    let last = seen.connect_failures()[20 + MOST - 1].to_string();
    assert!(last.contains(HANG), "{last}");

    // The patient one is aborted at once, and nothing is left in flight.
    endpoint.close(patient, posthouse::Close::abort()).expect("it still waits");
    harness.wait_for("its end", || seen.connect_failures().len() == 21 + MOST);
    harness.end(&endpoint);
    harness.end(&server);
}

#[test]
fn names_that_hang_hold_up_nothing_in_simulation() {
    in_simulation(|harness| {
        let world = harness.world();
        world.name("good.example", &["10.0.0.1".parse().expect("an address")]);
        for number in 0..MOST {
            world.hang_name(&format!("hangs-{number}.example"));
        }
        names_that_hang(harness, Duration::from_secs(6), "good.example");
    });
}

#[test]
fn a_name_that_hangs_is_told_at_the_deadline_and_ends_when_it_is_resumed() {
    in_simulation(|harness| {
        let world = harness.world();
        let server = harness.serve(Probe::echo());
        world.name("late.example", &["10.0.0.1".parse().expect("an address")]);
        world.hang_name("late.example");
        let probe = Probe::new();
        let seen = probe.seen();
        let endpoint = harness.client_side(probe);
        for seconds in [3, 60] {
            let target = to("late.example", Duration::from_secs(seconds));
            endpoint.connect(target, Line::default()).expect("no limit is reached");
        }
        world.run_for(Duration::from_millis(2_900));
        assert_eq!(seen.told().len(), 0, "the deadline acted too early");
        world.run_for(Duration::from_millis(200));
        assert_eq!(seen.connect_failures().len(), 1);
        world.resume_name("late.example");
        harness.wait_for("the connection", || seen.connected().len() == 1);
        world.hang_name("late.example");
        let failed = server.listen("late.example:9991").map(drop).expect_err("it hangs");
        assert!(failed.to_string().contains("could not be looked up in 10 s"), "{failed}");
        let stats = endpoint.stats();
        assert_eq!((stats.connections, seen.connect_failures().len()), (1, 1));
        harness.end(&endpoint);
        harness.end(&server);
    });
}

/// The same with the system's resolver, which asks a name server that never answers.
#[cfg(target_os = "linux")]
#[test]
fn names_that_hang_hold_up_nothing_on_real_sockets() {
    const TEST: &str = "behaviour::names::names_that_hang_hold_up_nothing_on_real_sockets";
    use crate::namespace::{has_ip, ip, is_inside};
    if !is_inside(TEST, &["--mount", "--net"], has_ip) {
        return;
    }
    ip(&["link", "set", "lo", "up"]);
    let files = tempfile::tempdir().expect("a directory");
    let configure = |name: &str, text: &str| {
        let file = files.path().join(name);
        std::fs::write(&file, text).expect("it is written");
        rustix::mount::mount_bind(&file, format!("/etc/{name}")).expect("it is mounted");
    };
    configure("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30 attempts:5\n");
    configure("hosts", "127.0.0.1 good.example localhost\n");
    let _silent = std::net::UdpSocket::bind("127.0.0.1:53").expect("nobody has the port");
    let threads = std::cell::Cell::new(0);
    crate::harness::on_real_sockets(|harness| {
        names_that_hang(harness, Duration::from_millis(5_500), "good.example");
        // One thread for each host. No thread can end as long as no name server answers.
        threads.set(threads.get() + MOST);
        assert_eq!(resolver_threads(), threads.get());
    });
}

/// Returns the number of threads of this process that look up hosts.
#[cfg(target_os = "linux")]
fn resolver_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a process sees its threads");
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("posthouse-names"))
        .count()
}
