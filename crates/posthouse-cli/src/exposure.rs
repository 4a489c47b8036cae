//! Who can reach a listener, and what must be said before everyone may.

use std::net::SocketAddr;

use posthouse::Framing;

use crate::failure::{Failure, Outcome};

/// How peers beyond this machine are let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// They prove a key.
    Key,
    /// Everyone may connect, and that was said explicitly.
    Open,
    /// Nothing was said: for this machine only.
    Unsaid,
}

/// Whether these addresses may be listened on.
pub(crate) fn check(addresses: &[SocketAddr], framing: &Framing, admission: Admission) -> Outcome {
    let native = *framing == Framing::Native;
    if admission == Admission::Key && !native {
        return Err(Failure::usage(format!(
            "--key-file needs the native framing: {framing} has no place for the proof of a key; \
             leave out --framing or --key-file"
        )));
    }
    let exposed = addresses.iter().find(|address| !is_loopback(address));
    let (Admission::Unsaid, Some(address)) = (admission, exposed) else { return Ok(()) };
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

    fn refused(addresses: &[&str], framing: &str, admission: Admission) -> Option<String> {
        let addresses: Vec<_> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        check(&addresses, &framing.parse().unwrap(), admission).err().map(|e| e.to_string())
    }

    #[test]
    fn loopback_needs_nothing_said_in_any_of_its_forms() {
        let forms = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"];
        assert_eq!(refused(&forms, "native", Admission::Unsaid), None);
        assert_eq!(refused(&forms, "lines", Admission::Unsaid), None);
    }

    #[test]
    fn one_address_beyond_loopback_is_refused_until_a_key_or_open_is_said() {
        for beyond in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            let addresses = ["127.0.0.1:1", beyond];
            let text = refused(&addresses, "native", Admission::Unsaid).expect(beyond);
            for part in [beyond, "other machines", "--key-file", "--open", "loopback"] {
                assert!(text.contains(part), "{text:?} lacks {part:?}");
            }
            assert_eq!(refused(&addresses, "native", Admission::Key), None);
            assert_eq!(refused(&addresses, "native", Admission::Open), None);
        }
    }

    #[test]
    fn a_framing_without_proof_takes_no_key_and_is_not_advised_to() {
        let text = refused(&["127.0.0.1:1"], "lines", Admission::Key).unwrap();
        assert!(text.contains("lines has no place"), "{text}");
        let text = refused(&["0.0.0.0:1"], "raw", Admission::Unsaid).unwrap();
        assert!(!text.contains("--key-file") && text.contains("--open"), "{text}");
    }
}
