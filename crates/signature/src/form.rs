//! Forms, queries and addresses, as far as senders sign them: decoded strictly, brought into one order,
//! and tried with and without a port.

/// Names and values of `application/x-www-form-urlencoded` text, decoded, in the order received. Bytes stay
/// bytes: two bodies that differ in what is no UTF-8 must not become the same message.
pub(crate) fn pairs(text: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    text.split(|byte| *byte == b'&')
        .filter(|part| !part.is_empty())
        .map(|part| match part.iter().position(|byte| *byte == b'=') {
            Some(at) => (decode(&part[..at]), decode(&part[at + 1..])),
            None => (decode(part), Vec::new()),
        })
        .collect()
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => match escaped(after) {
                Some(byte) => {
                    rest = &after[2..];
                    byte
                }
                None => b'%',
            },
            other => other,
        });
    }
    bytes
}

fn escaped(after: &[u8]) -> Option<u8> {
    let digits = after.get(..2)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// Every name followed by each of its values: names sorted, values sorted, each pair once.
pub(crate) fn sorted(body: &[u8]) -> Vec<u8> {
    let mut pairs = pairs(body);
    pairs.sort();
    pairs.dedup();
    pairs.into_iter().flat_map(|(name, value)| [name, value]).flatten().collect()
}

/// The value of the form's only field, if that is its name: another field beside it would not be signed.
pub(crate) fn only(body: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut pairs = pairs(body).into_iter();
    match (pairs.next(), pairs.next()) {
        (Some((found, value)), None) if found == name.as_bytes() => Some(value),
        _ => None,
    }
}

/// How a sender may have written the address of a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UrlVariants {
    AsIs,
    /// With the port and without it.
    Port,
}

impl UrlVariants {
    pub(crate) fn of(self, url: &str) -> Vec<String> {
        let parts = split(url).filter(|_| self == Self::Port);
        let Some((scheme, authority, rest)) = parts else { return vec![url.to_owned()] };
        let default = if scheme.eq_ignore_ascii_case("https") { "443" } else { "80" };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            Some(_) | None => (authority, default),
        };
        vec![format!("{scheme}://{host}{rest}"), format!("{scheme}://{host}:{port}{rest}")]
    }
}

/// Scheme, authority, and all that follows.
pub(crate) fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, after) = url.split_once("://")?;
    let end = after.find(['/', '?', '#']).unwrap_or(after.len());
    let web = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http");
    (web && end > 0).then(|| (scheme, &after[..end], &after[end..]))
}

/// The query of an address, without its question mark.
pub(crate) fn query(url: &str) -> &str {
    url.split_once('?').map_or("", |(_, query)| query)
}

/// The path of an address, absolute or not.
pub(crate) fn path(url: &str) -> &str {
    let rest = split(url).map_or(url, |(_, _, rest)| rest);
    rest.split(['?', '#']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, expected: &[&str]| assert_eq!(UrlVariants::Port.of(url), expected, "{url}");
        check("https://a.example/x?y=1", &["https://a.example/x?y=1", "https://a.example:443/x?y=1"]);
        check("https://a.example:443/x", &["https://a.example/x", "https://a.example:443/x"]);
        check("http://a.example", &["http://a.example", "http://a.example:80"]);
        check("http://a.example:8080?q", &["http://a.example?q", "http://a.example:8080?q"]);
        check("https://[::1]/x", &["https://[::1]/x", "https://[::1]:443/x"]);
        check("https://[::1]:8443/x", &["https://[::1]/x", "https://[::1]:8443/x"]);
        check("/x?y=1", &["/x?y=1"]);
        assert_eq!(UrlVariants::AsIs.of("https://a.example/"), ["https://a.example/"]);
        assert_eq!((path("https://a.example/x/y?z=/q"), query("/x?a=1?b")), ("/x/y", "a=1?b"));
    }

    #[test]
    fn only_fields() {
        assert_eq!(only(b"payload=%7B%7D", "payload"), Some(b"{}".to_vec()));
        assert_eq!(only(b"payload=1&more=2", "payload"), None);
        assert_eq!(only(b"other=1", "payload"), None);
        assert_eq!(only(b"", "payload"), None);
    }

    /// What any form parser makes of it, in the order that Twilio documents.
    fn oracle(body: &[u8]) -> Vec<u8> {
        let mut fields: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            fields.entry(name.into_owned()).or_default().insert(value.into_owned());
        }
        let mut text = String::new();
        for (name, values) in &fields {
            for value in values {
                text.push_str(name);
                text.push_str(value);
            }
        }
        text.into_bytes()
    }

    fn fields() -> impl Strategy<Value = Vec<(String, String)>> {
        proptest::collection::vec(("[a-c&=%+é ]{0,3}", "\\PC{0,4}"), 0..6)
    }

    proptest! {
        #[test]
        fn sorting_agrees_with_another_parser(fields in fields()) {
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&fields).finish();
            prop_assert_eq!(sorted(body.as_bytes()), oracle(body.as_bytes()));
        }

        #[test]
        fn so_it_does_on_noise(body in "[a-c%+=&2é]{0,24}") {
            // The other parser replaces what is not UTF-8; this one keeps it.
            if !String::from_utf8_lossy(&oracle(body.as_bytes())).contains('\u{fffd}') {
                prop_assert_eq!(sorted(body.as_bytes()), oracle(body.as_bytes()));
            }
        }

        #[test]
        fn the_order_of_fields_does_not_matter(fields in fields()) {
            let write = |fields: &[(String, String)]| {
                form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
            };
            let reversed: Vec<_> = fields.iter().rev().cloned().collect();
            prop_assert_eq!(sorted(write(&fields).as_bytes()), sorted(write(&reversed).as_bytes()));
        }

        #[test]
        fn variants_differ_in_the_port_alone(host in "[a-z]{1,8}(\\.[a-z]{2,3})?", port in proptest::option::of(1u16..), rest in "(/[a-z:]{0,8})?(\\?[a-z=:]{0,8})?") {
            let with = |port: Option<u16>| {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                format!("https://{host}{port}{rest}")
            };
            let expected = vec![with(None), with(port.or(Some(443)))];
            prop_assert_eq!(UrlVariants::Port.of(&with(port)), expected);
        }
    }
}
