//! Networks, as `inCidr` in a condition, `allow_from` of a webhook and the server's trusted proxies name them.

use std::{fmt, net::IpAddr};

use serde::{Deserialize, Serialize};

/// The longest text that can be an address.
const MAX_ADDRESS: usize = 64;

/// All addresses that share the first bits with one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text:?} is no network: {why}");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr =
            address.parse().map_err(|_| wrong("wanted is \"10.0.0.0/8\" or \"2001:db8::/32\""))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => width,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|bits| *bits <= width)
                .ok_or_else(|| wrong(&format!("after the slash comes a number from 0 to {width}")))?,
        };
        let network = Self { address, bits };
        let first = network.first();
        if first != address {
            return Err(wrong(&format!("it starts at {first}: write \"{first}/{bits}\"")));
        }
        Ok(network)
    }

    /// The address with all bits after the prefix cleared.
    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        }
    }

    /// An IPv4 address that is written as IPv6 is the IPv4 address.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.address.is_ipv4() == address.is_ipv4()
            && Self { address, bits: self.bits }.first() == self.address
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// `::ffff:10.0.0.1` is the IPv4 address that it holds.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    (text.len() <= MAX_ADDRESS)
        .then(|| text.parse::<IpAddr>().ok())
        .flatten()
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_holds_its_addresses() {
        let check = |network: &str, text: &str, expected: bool| {
            let network = Network::parse(network).expect(network);
            let found = address(text).is_some_and(|address| network.contains(address));
            assert_eq!(found, expected, "{text} in {network:?}");
        };
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.1.2.3", true);
        check("0.0.0.0/0", "203.0.113.9", true);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7/32", "192.0.2.8", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        check("::/0", "2001:db8::1", true);
        check("2001:db8::1", "2001:db8::1", true);
        check("10.0.0.0/8", "10.0.0.1:443", false);
        check("10.0.0.0/8", "ten", false);
    }

    #[test]
    fn what_is_no_network_says_why() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Network::parse(text).expect_err(text), format!("{text:?} is no network: {expected}"));
        };
        check("10.0.0", "wanted is \"10.0.0.0/8\" or \"2001:db8::/32\"");
        check("10.0.0.0/33", "after the slash comes a number from 0 to 32");
        check("::/129", "after the slash comes a number from 0 to 128");
        check("10.0.0.0/", "after the slash comes a number from 0 to 32");
        check("10.1.2.3/8", "it starts at 10.0.0.0: write \"10.0.0.0/8\"");
    }

    proptest! {
        #[test]
        fn prefixes_decide(a: u32, b: u32, bits in 0_u8..=32) {
            let network = Network { address: IpAddr::V4(a.into()), bits };
            let network = Network { address: network.first(), bits };
            let shared = bits == 0 || a >> (32 - bits) == b >> (32 - bits);
            prop_assert_eq!(network.contains(IpAddr::V4(b.into())), shared);
        }
    }
}
