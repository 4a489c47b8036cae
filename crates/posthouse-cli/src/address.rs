//! Addresses on the command line.

use std::net::SocketAddr;
use std::str::FromStr as _;

use posthouse::Target;

/// Reads where a server is: `HOST:PORT`.
///
/// # Errors
///
/// What is wrong with it, or what to write instead.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    let target = Target::from_str(text);
    target.map_err(|error| port_too_high(text).unwrap_or_else(|| error.to_string()))
}

/// Reads where to listen: `IP:PORT`.
///
/// # Errors
///
/// What is wrong with it, or what to write instead.
pub(crate) fn listening(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        port_too_high(text)
            .unwrap_or_else(|| "write IP:PORT, such as 127.0.0.1:9990 or [::1]:9990".to_owned())
    })
}

/// What to say of a port that is a number and yet no port.
fn port_too_high(text: &str) -> Option<String> {
    let (_, port) = text.rsplit_once(':')?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_too_high = is_number && port.parse::<u16>().is_err();
    is_too_high.then(|| format!("there is no port {port}: the highest is {}", u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_above_the_highest_is_named_and_anything_else_is_told_how_to_write() {
        for text in ["127.0.0.1:65536", "[::1]:65536", "[::1]:99999999999999999999"] {
            let expected = format!("there is no port {}: ", &text[text.rfind(':').unwrap() + 1..]);
            assert!(target(text).unwrap_err().starts_with(&expected), "{text}");
            assert!(listening(text).unwrap_err().starts_with(&expected), "{text}");
        }
        for text in ["127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:http"] {
            assert!(target(text).unwrap_err().contains("write HOST:PORT"), "{text}");
            assert!(listening(text).unwrap_err().contains("write IP:PORT"), "{text}");
        }
        target("127.0.0.1:65535").unwrap();
        listening("127.0.0.1:65535").unwrap();
    }
}
