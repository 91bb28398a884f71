//! Whom a limit per sender counts as one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 address, or an IPv6 network of 64 bits, which is what one subscriber has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Prefix {
    V4(Ipv4Addr),
    V6([u16; 4]),
    /// This machine: exempt, or everybody behind a local proxy would share one allowance.
    Loopback,
}

impl Prefix {
    pub(crate) fn of(ip: IpAddr) -> Self {
        // An IPv4 address that a dual-stack socket shows as IPv6 is the IPv4 address.
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(ip) => Self::V4(ip),
            IpAddr::V6(ip) => Self::V6(network(ip)),
        }
    }
}

fn network(ip: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = ip.segments();
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sender() {
        let check = |a: &str, b: &str, expected: bool| {
            let prefix = |text: &str| Prefix::of(text.parse().expect("an address"));
            assert_eq!(prefix(a) == prefix(b), expected, "{a} and {b}");
        };
        check("192.0.2.1", "192.0.2.1", true);
        check("192.0.2.1", "192.0.2.2", false);
        check("192.0.2.1", "::ffff:192.0.2.1", true);
        check("2001:db8::1", "2001:db8::2", true);
        check("2001:db8:0:1::1", "2001:db8::1", false);
        check("127.0.0.1", "::1", true);
        check("127.0.0.1", "::ffff:127.1.2.3", true);
    }
}
