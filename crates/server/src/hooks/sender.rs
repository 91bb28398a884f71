//! Who sent a delivery: whoever is at the other end of the connection, unless that is a proxy of ours, which says
//! who is behind it. What a stranger writes into the same header is never believed.

use std::net::IpAddr;

use hetuflow_core::network::Network;
use http::{HeaderMap, header::FORWARDED};

use crate::config::{HookLimits, ProxyHeader};

/// Proxies of ours that may stand one behind the other; what is written further on is not looked at.
const MAX_HOPS: usize = 16;

/// The last one in the chain that is no proxy of ours. Where a proxy wrote what is no address, the sender is that proxy.
pub(super) fn of(peer: IpAddr, headers: &HeaderMap, limits: &HookLimits) -> IpAddr {
    let mut sender = peer.to_canonical();
    if !is_trusted(sender, &limits.trusted_proxies) {
        return sender;
    }
    for hop in hops(headers, limits.proxy_header).take(MAX_HOPS) {
        let Some(address) = hop else { return sender };
        sender = address;
        if !is_trusted(sender, &limits.trusted_proxies) {
            return sender;
        }
    }
    sender
}

pub(crate) fn is_trusted(address: IpAddr, proxies: &[Network]) -> bool {
    proxies.iter().any(|network| network.contains(address))
}

/// From the proxy that is nearest to us on: each wrote its own peer behind what it was given. `None` is no address.
fn hops(headers: &HeaderMap, written_in: ProxyHeader) -> impl Iterator<Item = Option<IpAddr>> {
    let name = match written_in {
        ProxyHeader::XForwardedFor => http::HeaderName::from_static("x-forwarded-for"),
        ProxyHeader::Forwarded => FORWARDED,
    };
    let lines: Vec<&str> =
        headers.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).collect();
    lines.into_iter().rev().flat_map(move |line| line.rsplit(',')).map(move |part| match written_in {
        ProxyHeader::XForwardedFor => address(part),
        ProxyHeader::Forwarded => part.split(';').find_map(for_parameter).and_then(address),
    })
}

/// `for="[2001:db8::1]:4711"` (RFC 7239).
fn for_parameter(pair: &str) -> Option<&str> {
    let (name, value) = pair.split_once('=')?;
    name.trim().eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
}

/// With or without a port, and IPv6 with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(inside, _)| inside);
    let plain =
        || text.parse().or_else(|_| text.parse().map(|socket: std::net::SocketAddr| socket.ip())).ok();
    let found = match bracketed {
        Some(inside) => inside.parse().ok(),
        None => plain(),
    };
    found.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn check(peer: &str, written_in: ProxyHeader, lines: &[(&'static str, &str)], expected: &str) {
        let mut limits = Config::read(None, &[]).expect("the defaults").hooks;
        limits.trusted_proxies =
            ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).expect("a network")).to_vec();
        limits.proxy_header = written_in;
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a value"));
        }
        let found = of(peer.parse().expect("an address"), &headers, &limits);
        assert_eq!(found.to_string(), expected, "{peer} {lines:?}");
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        let xff = |peer, values: &[&str], expected| {
            let lines: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            check(peer, ProxyHeader::XForwardedFor, &lines, expected);
        };
        xff("203.0.113.9", &["192.0.2.1"], "203.0.113.9");
        xff("10.0.0.1", &[], "10.0.0.1");
        xff("10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        xff("::ffff:10.0.0.1", &["192.0.2.1"], "192.0.2.1");
        // What the sender wrote itself stands before what the proxy wrote.
        xff("10.0.0.1", &["127.0.0.1, 192.0.2.1"], "192.0.2.1");
        xff("10.0.0.1", &["127.0.0.1", "192.0.2.1"], "192.0.2.1");
        xff("10.0.0.1", &["192.0.2.1, 10.0.0.2"], "192.0.2.1");
        xff("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3");
        xff("10.0.0.1", &["192.0.2.1, unknown"], "10.0.0.1");
        xff("10.0.0.1", &["192.0.2.1, "], "10.0.0.1");
        xff("10.0.0.1", &["192.0.2.1:4711"], "192.0.2.1");
        xff("10.0.0.1", &["[2001:db9::1]:4711, 2001:db8::1"], "2001:db9::1");
        xff("10.0.0.1", &["::ffff:192.0.2.1"], "192.0.2.1");
    }

    #[test]
    fn one_header_is_read_and_no_other() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2;proto=https")];
        check("10.0.0.1", ProxyHeader::XForwardedFor, &both, "192.0.2.1");
        check("10.0.0.1", ProxyHeader::Forwarded, &both, "192.0.2.2");
        let quoted = [("forwarded", "for=127.0.0.1, For=\"[2001:db9::7]:80\";by=10.0.0.1")];
        check("10.0.0.1", ProxyHeader::Forwarded, &quoted, "2001:db9::7");
        check("10.0.0.1", ProxyHeader::Forwarded, &[("forwarded", "for=192.0.2.2, for=_hidden")], "10.0.0.1");
        check("10.0.0.1", ProxyHeader::Forwarded, &[("forwarded", "proto=https")], "10.0.0.1");
    }
}
