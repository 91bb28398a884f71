//! Where a listener is: a port on loopback, or an address with a port.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use serde::{Deserialize, Deserializer, de};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address(SocketAddr);

impl Address {
    /// On 127.0.0.1. Port 0 lets the system choose.
    #[must_use]
    pub const fn port(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    #[must_use]
    pub const fn socket_addr(self) -> SocketAddr {
        self.0
    }

    /// Whether both ask for the same socket. Two free ports are two.
    #[must_use]
    pub fn shares_socket_with(self, other: Self) -> bool {
        self == other && self.0.port() != 0
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor)
    }
}

struct AddressVisitor;

impl de::Visitor<'_> for AddressVisitor {
    type Value = Address;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port (8080) or an address with a port (\"127.0.0.1:8080\")")
    }

    fn visit_u64<E: de::Error>(self, port: u64) -> Result<Address, E> {
        let port = u16::try_from(port).map_err(|_| E::custom(format!("{port} is not a port: 0 to 65535")))?;
        Ok(Address::port(port))
    }

    fn visit_i64<E: de::Error>(self, port: i64) -> Result<Address, E> {
        let port = u64::try_from(port).map_err(|_| E::custom(format!("{port} is not a port: 0 to 65535")))?;
        self.visit_u64(port)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Address, E> {
        if let Ok(port) = text.parse() {
            return Ok(Address::port(port));
        }
        text.parse().map(Address).map_err(|_| {
            E::custom(format!("{text:?} is not an address: write a port (8080) or \"127.0.0.1:8080\""))
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_and_addresses() {
        let check = |value: serde_json::Value, expected: Option<&str>| {
            let address = serde_json::from_value::<Address>(value.clone()).ok().map(|a| a.to_string());
            assert_eq!(address.as_deref(), expected, "{value}");
        };
        check(json!(8080), Some("127.0.0.1:8080"));
        check(json!("8080"), Some("127.0.0.1:8080"));
        check(json!("0.0.0.0:80"), Some("0.0.0.0:80"));
        check(json!("[::1]:80"), Some("[::1]:80"));
        check(json!(65536), None);
        check(json!(-1), None);
        check(json!("localhost"), None);
    }

    #[test]
    fn free_ports_are_never_shared() {
        assert!(Address::port(8080).shares_socket_with(Address::port(8080)));
        assert!(!Address::port(8080).shares_socket_with(Address::port(8081)));
        assert!(!Address::port(0).shares_socket_with(Address::port(0)));
    }
}
