//! The bind policy: a server listens on an address that other machines can reach only if it has a
//! key, or if the user allows everyone.

use std::net::SocketAddr;

use posthouse::Framing;

use crate::failure::{CommandResult, Failure};
use crate::settings::ListenSettings;

/// The peers that the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// The peers that prove that they know the key.
    Key,
    /// All peers: `--open`.
    Open,
    /// The peers on this machine. This is the default.
    LoopbackOnly,
}

/// Returns an error if a listener is not allowed.
pub(crate) fn check(listeners: &[ListenSettings], access: Access) -> CommandResult {
    for ListenSettings { address, framing, .. } in listeners {
        let native = *framing == Framing::Native;
        match access {
            Access::Key if !native => {
                return Err(Failure::usage(format!(
                    "--key-file requires the native framing, but {address} has the framing \
                     {framing}; leave out the framing or --key-file"
                )));
            }
            Access::LoopbackOnly if !is_loopback(address) => {
                let key = if native { "require a secret with --key-file FILE, " } else { "" };
                return Err(Failure::usage(format!(
                    "{address} can be reached from other machines, and every peer would be \
                     admitted; {key}admit everyone with --open, or listen on a loopback address"
                )));
            }
            Access::Key | Access::Open | Access::LoopbackOnly => {}
        }
    }
    Ok(())
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use posthouse::ConnectionOptions;

    use super::*;

    fn refused(listeners: &[(&str, &str)], access: Access) -> Option<String> {
        let listener = |(address, framing): &(&str, &str)| {
            let address = address.parse().unwrap();
            let mut listener = ListenSettings::new(address, ConnectionOptions::default());
            listener.framing = framing.parse().unwrap();
            listener
        };
        let listeners: Vec<_> = listeners.iter().map(listener).collect();
        check(&listeners, access).err().map(|error| error.to_string())
    }

    #[test]
    fn loopback_needs_nothing_said_in_any_of_its_forms() {
        for framing in ["native", "lines"] {
            let forms = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
            let listeners = forms.map(|address| (address, framing));
            assert_eq!(refused(&listeners, Access::LoopbackOnly), None);
        }
    }

    #[test]
    fn one_address_beyond_loopback_is_refused_until_a_key_or_open_is_said() {
        for beyond in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let listeners = [("127.0.0.1:1", "native"), (beyond, "native")];
            let text = refused(&listeners, Access::LoopbackOnly).unwrap();
            for part in [beyond, "other machines", "--key-file", "--open", "loopback"] {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
            assert_eq!(refused(&listeners, Access::Key), None);
            assert_eq!(refused(&listeners, Access::Open), None);
        }
    }

    #[test]
    fn a_framing_without_proof_takes_no_key_and_is_not_advised_to() {
        let listeners = [("127.0.0.1:1", "native"), ("127.0.0.1:2", "lines")];
        let text = refused(&listeners, Access::Key).unwrap();
        assert!(text.contains("127.0.0.1:2 has the framing lines"), "{text}");
        assert_eq!(refused(&listeners, Access::Open), None);
        let listeners = [("127.0.0.1:1", "native"), ("0.0.0.0:1", "raw")];
        let text = refused(&listeners, Access::LoopbackOnly).unwrap();
        assert!(!text.contains("--key-file") && text.contains("--open"), "{text}");
    }
}
