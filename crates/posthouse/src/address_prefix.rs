//! The prefix of an address, as far as limits tell peers apart.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use posthouse_io::Address;

/// An IPv4 address, or the first bits of an IPv6 address: a network assigns a host a whole range of
/// IPv6 addresses, so one address more or less means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddressPrefix {
    ip: IpAddr,
    bits: u8,
}

impl AddressPrefix {
    /// Returns the prefix of a peer's address, which has `ipv6_bits` bits if it is IPv6.
    pub(crate) fn of(peer: Address, ipv6_bits: u32) -> Self {
        match peer.ip() {
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(u128::BITS - ipv6_bits).unwrap_or(0);
                let ip = IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & mask));
                Self { ip, bits: ipv6_bits as u8 }
            }
            ip @ IpAddr::V4(_) => Self { ip, bits: Ipv4Addr::BITS as u8 },
        }
    }
}

impl fmt::Display for AddressPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "{ip}/{}", self.bits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(ip: &str, ipv6_bits: u32) -> AddressPrefix {
        let ip: IpAddr = ip.parse().unwrap();
        AddressPrefix::of(std::net::SocketAddr::new(ip, 9990).into(), ipv6_bits)
    }

    #[test]
    fn ipv6_addresses_of_one_prefix_are_one_and_ipv4_addresses_are_each_their_own() {
        let one = "2001:db8:1:2::1";
        for (other, bits) in
            [("2001:db8:1:2:ffff::9", 64), ("2001:db8:1:3::1", 63), ("2001:db8:ffff::", 32)]
        {
            assert_eq!(prefix(one, bits), prefix(other, bits), "{other}/{bits}");
            assert_ne!(prefix(one, 128), prefix(other, 128), "{other}/128");
        }
        for (other, bits) in
            [("2001:db8:1:3::1", 64), ("2001:db8:1:2::2", 127), ("2001:db9::1", 32)]
        {
            assert_ne!(prefix(one, bits), prefix(other, bits), "{other}/{bits}");
        }
        assert_ne!(prefix("192.0.2.1", 64), prefix("192.0.2.2", 64));
        assert_eq!(prefix(one, 64).to_string(), "2001:db8:1:2::/64");
        assert_eq!(prefix("192.0.2.1", 64).to_string(), "192.0.2.1");
        assert_eq!(prefix("::ffff:192.0.2.1", 64), prefix("192.0.2.1", 64));
        assert_ne!(prefix("::ffff:192.0.2.1", 64), prefix("::ffff:192.0.2.2", 64));
    }
}
