//! Links (threat T18) and files that are not regular (threat T24) through the framework.

use super::file_handler::serve;
use crate::harness::on_real_sockets;

#[cfg(unix)]
use std::os::unix::fs::{symlink as link_to_file, symlink as link_to_directory};
#[cfg(windows)]
use std::os::windows::fs::{symlink_dir as link_to_directory, symlink_file as link_to_file};

/// Threat T18: the directory contains links from the start.
#[cfg_attr(windows, ignore = "Wine 8 creates no links, and Windows only with a privilege")]
#[test]
fn planted_links_are_not_followed_in_either_direction() {
    on_real_sockets(|harness| {
        let here = harness.store("here");
        let there = harness.store("there");
        let outside = harness.store("outside");
        outside.write("secret", b"secret");
        let at = |name: &str| there.path().join(name);
        link_to_file(outside.path().join("secret"), at("link")).expect("the link can be created");
        link_to_directory(outside.path(), at("way")).expect("the link can be created");
        let (server, _) = serve(harness, &there.directory());
        let client = harness.client(&server);
        for name in ["link", "way/secret", "way/new"] {
            here.write(name, b"other!");
            assert!(client.put(name, &here.directory()).is_err(), "{name} was written");
            here.remove(name);
            assert!(client.get(name, &here.directory()).is_err(), "{name} was read");
        }
        assert!(
            client.list().expect("the listing succeeds").files.is_empty(),
            "a link was listed as a file"
        );
        client.close();
        harness.end(&server);
        assert_eq!(outside.files(), ["secret"]);
        assert_eq!(outside.read("secret").as_deref(), Some(&b"secret"[..]));
        assert!(here.files().is_empty());
    });
}

/// Tests with a process that swaps directories, and with kinds of files that only Unix has.
#[cfg(unix)]
mod unix {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command, Stdio};

    use posthouse::{ClientError, TransferErrorKind};

    use super::super::file_handler::serve;
    use crate::harness::on_real_sockets;
    use crate::store::content;

    /// The process that swaps a directory and a link. Dropping this value kills it.
    struct Swapper(Child);

    impl Drop for Swapper {
        fn drop(&mut self) {
            self.0.kill().expect("the process still runs");
            self.0.wait().expect("the process can be waited for");
        }
    }

    /// Threat T18: a process replaces a directory in the path by a link to the outside, and back,
    /// again and again.
    #[test]
    fn nothing_leaves_the_directory_whoever_swaps_links() {
        on_real_sockets(|harness| {
            let here = harness.store("here");
            let there = harness.store("there");
            let outside = harness.store("outside");
            fs::create_dir(there.path().join("way")).expect("the directory can be created");
            symlink(outside.path(), there.path().join("out")).expect("the link can be created");
            // The endpoint may create the directory while the first one is away. The new one is
            // then moved aside.
            let swap = "n=0; while :; do mv -T way held; mv -T out way; mv -T way out; \
                mv -T held way || { mv -T way spare$n; n=$((n + 1)); mv -T held way; }; done";
            let swapper = Command::new("sh")
                .args(["-c", swap])
                .current_dir(there.path())
                .stderr(Stdio::null())
                .spawn();
            let swapper = Swapper(swapper.expect("the shell runs"));
            let (server, _) = serve(harness, &there.directory());
            let client = harness.client(&server);
            let mut arrived = 0;
            let mut refused = 0;
            // Under load the shell may pause for long, so that 150 files meet only one of its
            // states.
            for number in 0..20_000 {
                if number >= 150 && arrived > 0 && refused > 0 {
                    break;
                }
                let name = format!("way/{number}");
                here.write(&name, &content(number, 100));
                match client.put(&name, &here.directory()) {
                    Ok(_) => arrived += 1,
                    // At that moment `way` was the link, or did not exist.
                    Err(ClientError::Transfer(_)) => refused += 1,
                    Err(error) => panic!("{error}"),
                }
                let _ = client.get(&name, &here.directory());
            }
            drop(swapper);
            client.close();
            harness.end(&server);
            assert!(
                arrived > 0 && refused > 0,
                "nothing was swapped: {arrived} files arrived, {refused} were refused"
            );
            assert!(outside.files().is_empty(), "a file left the directory: {:?}", outside.files());
            for name in there.files() {
                // The link itself is listed, too, under its current name.
                let Ok(number) = name.rsplit('/').next().expect("a name").parse() else { continue };
                assert!(
                    there.read(&name).expect("the file exists") == content(number, 100),
                    "{name}"
                );
            }
        });
    }

    /// Threat T24: the requested name is that of a FIFO, a directory or a socket.
    #[test]
    fn what_is_no_regular_file_is_neither_waited_for_nor_sent() {
        on_real_sockets(|harness| {
            let there = harness.store("there");
            let made = Command::new("mkfifo").arg(there.path().join("fifo")).status();
            assert!(made.expect("mkfifo runs").success());
            fs::create_dir(there.path().join("directory")).expect("the directory can be created");
            UnixListener::bind(there.path().join("socket")).expect("the socket can be created");
            let (server, _) = serve(harness, &there.directory());
            let client = harness.client(&server);
            let here = harness.store("here");
            for name in ["fifo", "directory", "socket"] {
                for error in [
                    client.get(name, &here.directory()).unwrap_err(),
                    client.put(name, &there.directory()).unwrap_err(),
                ] {
                    let ClientError::Transfer(error) = error else { panic!("{error}") };
                    assert_eq!(error.kind(), TransferErrorKind::BadName, "{name}: {error}");
                }
            }
            client.close();
            harness.end(&server);
            assert!(here.files().is_empty());
        });
    }
}
