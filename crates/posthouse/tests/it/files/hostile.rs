//! Names, links, full disks and odd files: T17, T18, T22, T24 through the framework.

use std::fs;
use std::process::{Child, Command, Stdio};

use posthouse::{ClientError, TransferErrorKind};

use super::carrier::{failed, serve};
use super::frames::{OFFER, aborted, accepted, greet, offer};
use crate::bed::{everywhere, in_simulation, on_real_sockets};
use crate::store::content;

/// T17: what a peer says, whatever its own side would have checked.
#[test]
fn a_name_that_may_not_be_is_refused_and_the_next_offer_is_heard() {
    let names: [&[u8]; 18] = [
        b"",
        b"/etc/passwd",
        b"../up",
        b"a/../../up",
        b"a//b",
        b"./a",
        b"C:/a",
        b"a\\b",
        b"\\\\host\\share\\a",
        b"file:stream",
        b"CON",
        b"nul.txt",
        b"dir/com1",
        b"dot.",
        b"a\0b",
        b"a\nb",
        b"\xff\xfe",
        b".posthouse/x",
    ];
    everywhere(|bed| {
        let there = bed.store("there");
        let (server, log) = serve(bed, &there.directory());
        let mut raw = bed.dial(&server);
        greet(bed, &mut raw);
        let mut id = 1;
        for name in names.into_iter().chain([&vec![b'x'; 300][..], &vec![b'x'; 2000]]) {
            raw.send_frame(OFFER, &offer(id, 1, name));
            let (code, text) = aborted(bed, &mut raw, id);
            assert_eq!(code, 8, "{name:?}: {text}");
            assert!(!text.contains(['\n', '\0']), "{text:?}");
            id += 2;
        }
        raw.send_frame(OFFER, &offer(id, 0, b"right"));
        assert_eq!(accepted(bed, &mut raw), (0, 0));
        bed.end(&server);
        assert!(there.files().is_empty() && log.transfers().len() == 1);
    });
}

/// Ends the process that swaps.
struct Swapper(Child);

impl Drop for Swapper {
    fn drop(&mut self) {
        self.0.kill().expect("it still runs");
        self.0.wait().expect("it can be waited for");
    }
}

/// T18: a process swaps a directory on the way for a link that leads out, again and again.
#[test]
fn nothing_leaves_the_directory_whoever_swaps_links() {
    on_real_sockets(|bed| {
        let (here, there, outside) = (bed.store("here"), bed.store("there"), bed.store("outside"));
        fs::create_dir(there.path().join("way")).expect("room");
        std::os::unix::fs::symlink(outside.path(), there.path().join("out")).expect("a link");
        let swap = "while :; do mv -T way held; mv -T out way; mv -T way out; mv -T held way; done";
        let swapper = Command::new("sh")
            .args(["-c", swap])
            .current_dir(there.path())
            .stderr(Stdio::null())
            .spawn();
        let swapper = Swapper(swapper.expect("a shell"));
        let (server, _) = serve(bed, &there.directory());
        let client = bed.client(&server);
        let mut arrived = 0;
        for number in 0..150 {
            let name = format!("way/{number}");
            here.write(&name, &content(number, 100));
            match client.put(&here.directory(), &name) {
                Ok(_) => arrived += 1,
                // The link was in the way, or the directory was not there.
                Err(ClientError::Transfer(_)) => {}
                Err(error) => panic!("{error}"),
            }
            let _ = client.get(&name, &here.directory());
        }
        drop(swapper);
        client.close();
        bed.end(&server);
        assert!(arrived > 0, "the way was there at times");
        assert!(outside.files().is_empty(), "nothing went out: {:?}", outside.files());
        for name in there.files() {
            // The link itself is listed, too, wherever it lies just now.
            let Ok(number) = name.rsplit('/').next().expect("a name").parse() else { continue };
            assert!(there.read(&name).expect("there") == content(number, 100), "{name}");
        }
    });
}

/// T18: links and hard links that lie there from the start.
#[test]
fn planted_links_are_not_followed_in_either_direction() {
    on_real_sockets(|bed| {
        let (here, there, outside) = (bed.store("here"), bed.store("there"), bed.store("outside"));
        outside.write("secret", b"secret");
        let link = |name: &str| {
            let to = outside.path().join("secret");
            std::os::unix::fs::symlink(to, there.path().join(name)).expect("a link");
        };
        link("link");
        std::os::unix::fs::symlink(outside.path(), there.path().join("way")).expect("a link");
        let (server, _) = serve(bed, &there.directory());
        let client = bed.client(&server);
        for name in ["link", "way/secret", "way/new"] {
            here.write(name, b"other!");
            assert!(client.put(&here.directory(), name).is_err(), "{name} is not written");
            here.remove(name);
            assert!(client.get(name, &here.directory()).is_err(), "{name} is not read");
        }
        assert!(client.list().expect("a list").is_empty(), "links are no files");
        client.close();
        bed.end(&server);
        assert_eq!(outside.files(), ["secret"]);
        assert_eq!(outside.read("secret").as_deref(), Some(&b"secret"[..]));
        assert!(here.files().is_empty());
    });
}

/// T22.
#[test]
fn a_full_disk_fails_one_transfer_and_what_came_is_kept_for_the_next() {
    in_simulation(|bed| {
        let (here, there) = (bed.store("here"), bed.store("there"));
        here.write("large", &content(1, 100_000));
        here.write("small", &content(2, 100));
        bed.world().disk("there").capacity(60_000);
        let (server, log) = serve(bed, &there.directory());
        let client = bed.client(&server);
        let error = client.put(&here.directory(), "large").unwrap_err();
        let ClientError::Transfer(error) = error else { panic!("{error}") };
        assert_eq!(error.kind(), TransferErrorKind::NoSpace, "{error}");
        assert_eq!(failed(&log.wait(bed, 1)), Some(TransferErrorKind::NoSpace));
        assert!(there.files().is_empty());
        bed.world().disk("there").capacity(1_000_000);
        client.put(&here.directory(), "small").expect("there is room");
        client.put(&here.directory(), "large").expect("there is room now");
        assert!(log.wait(bed, 3).progress().resumed_from() > 0, "it went on");
        client.close();
        bed.end(&server);
        assert!(there.read("large").expect("there") == content(1, 100_000));
    });
}

/// T24.
#[test]
fn what_is_no_regular_file_is_neither_waited_for_nor_sent() {
    on_real_sockets(|bed| {
        let there = bed.store("there");
        let made = Command::new("mkfifo").arg(there.path().join("fifo")).status();
        assert!(made.expect("mkfifo").success());
        fs::create_dir(there.path().join("directory")).expect("room");
        std::os::unix::net::UnixListener::bind(there.path().join("socket")).expect("a socket");
        let (server, _) = serve(bed, &there.directory());
        let client = bed.client(&server);
        let here = bed.store("here");
        for name in ["fifo", "directory", "socket"] {
            for error in [
                client.get(name, &here.directory()).unwrap_err(),
                client.put(&there.directory(), name).unwrap_err(),
            ] {
                let ClientError::Transfer(error) = error else { panic!("{error}") };
                assert_eq!(error.kind(), TransferErrorKind::BadName, "{name}: {error}");
            }
        }
        client.close();
        bed.end(&server);
        assert!(here.files().is_empty());
    });
}
