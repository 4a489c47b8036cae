//! Addresses on the command line.

use std::net::SocketAddr;
use std::str::FromStr as _;

use posthouse::Target;

/// Parses the address of a server, `HOST:PORT`.
///
/// # Errors
///
/// The reason, or a hint with the accepted form.
pub(crate) fn parse_target(text: &str) -> Result<Target, String> {
    let target = Target::from_str(text);
    target.map_err(|error| port_too_high(text).unwrap_or_else(|| error.to_string()))
}

/// Parses an address to listen on, `IP:PORT`.
///
/// # Errors
///
/// The reason, or a hint with the accepted form.
pub(crate) fn parse_listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        port_too_high(text)
            .unwrap_or_else(|| "write IP:PORT, such as 127.0.0.1:9990 or [::1]:9990".to_owned())
    })
}

/// Returns the error for a numeric port above the highest one.
fn port_too_high(text: &str) -> Option<String> {
    let (_, port) = text.rsplit_once(':')?;
    let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_too_high = is_number && port.parse::<u16>().is_err();
    is_too_high.then(|| format!("port {port} is too high; the highest is {}", u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_above_the_highest_is_named_and_anything_else_gets_the_accepted_form() {
        for text in ["127.0.0.1:65536", "[::1]:65536", "[::1]:99999999999999999999"] {
            let expected = format!("port {} is too high", &text[text.rfind(':').unwrap() + 1..]);
            assert!(parse_target(text).unwrap_err().starts_with(&expected), "{text}");
            assert!(parse_listen_address(text).unwrap_err().starts_with(&expected), "{text}");
        }
        for text in ["127.0.0.1", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:http"] {
            assert!(parse_target(text).unwrap_err().contains("write HOST:PORT"), "{text}");
            assert!(parse_listen_address(text).unwrap_err().contains("write IP:PORT"), "{text}");
        }
        parse_target("127.0.0.1:65535").unwrap();
        parse_listen_address("127.0.0.1:65535").unwrap();
    }
}
