//! The rule which addresses may be listened on: reachable from other machines only with a key, or
//! when the user says so.

use std::net::SocketAddr;

use posthouse::Framing;

use crate::failure::{CommandResult, Failure};

/// The peers that the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every peer that proves the key.
    Key,
    /// Every peer: `--open`.
    Open,
    /// Peers on this machine, the default.
    LoopbackOnly,
}

/// Returns an error unless these addresses may be listened on.
pub(crate) fn check(addresses: &[SocketAddr], framing: &Framing, access: Access) -> CommandResult {
    let native = *framing == Framing::Native;
    if access == Access::Key && !native {
        return Err(Failure::usage(format!(
            "--key-file needs the native framing: {framing} has no place for the proof of a key; \
             leave out --framing or --key-file"
        )));
    }
    let exposed = addresses.iter().find(|address| !is_loopback(address));
    let (Access::LoopbackOnly, Some(address)) = (access, exposed) else { return Ok(()) };
    let key = if native { "give --key-file FILE, a secret that peers must prove, or " } else { "" };
    Err(Failure::usage(format!(
        "{address} can be reached from other machines, and whoever connects would be served: \
         {key}say --open if everyone may connect, or listen on a loopback address"
    )))
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(addresses: &[&str], framing: &str, access: Access) -> Option<String> {
        let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        check(&addresses, &framing.parse().unwrap(), access).err().map(|e| e.to_string())
    }

    #[test]
    fn loopback_needs_nothing_said_in_any_of_its_forms() {
        let forms = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        assert_eq!(refused(&forms, "native", Access::LoopbackOnly), None);
        assert_eq!(refused(&forms, "lines", Access::LoopbackOnly), None);
    }

    #[test]
    fn one_address_beyond_loopback_is_refused_until_a_key_or_open_is_said() {
        for beyond in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let addresses = ["127.0.0.1:1", beyond];
            let text = refused(&addresses, "native", Access::LoopbackOnly).expect(beyond);
            for part in [beyond, "other machines", "--key-file", "--open", "loopback"] {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
            assert_eq!(refused(&addresses, "native", Access::Key), None);
            assert_eq!(refused(&addresses, "native", Access::Open), None);
        }
    }

    #[test]
    fn a_framing_without_proof_takes_no_key_and_is_not_advised_to() {
        let text = refused(&["127.0.0.1:1"], "lines", Access::Key).unwrap();
        assert!(text.contains("lines has no place"), "{text}");
        let text = refused(&["0.0.0.0:1"], "raw", Access::LoopbackOnly).unwrap();
        assert!(!text.contains("--key-file") && text.contains("--open"), "{text}");
    }
}
