//! Addresses that a sender gives us: of a key to verify with, of a page to confirm a subscription at. Whoever opens
//! one makes a call that somebody else chose, so only https, only hosts of the scheme's list, and nothing of
//! an address that two readers could understand differently.

use crate::{
    Rejection, form,
    place::{Place, Source},
};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fetch {
    pub(crate) url: Address,
    /// Patterns; `*` is one label of letters, digits and hyphens.
    pub(crate) hosts: Vec<String>,
    /// How its path must end.
    pub(crate) ends: String,
    /// For messages.
    pub(crate) gives: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Fixed(String),
    At(Place),
}

impl Fetch {
    /// The address, if it is one that may be opened.
    pub(crate) fn address(&self, source: &Source<'_>) -> Result<String, Rejection> {
        let place = match &self.url {
            Address::Fixed(url) => return Ok(url.clone()),
            Address::At(place) => place,
        };
        let url = place.find(source)?.ok_or_else(|| Rejection::Missing(place.to_string()))?;
        let url = str::from_utf8(&url).unwrap_or_default();
        if self.admits(url) {
            return Ok(url.to_owned());
        }
        let hosts = self.hosts.join(" or ");
        Err(Rejection::Malformed(place.to_string(), format!("it is not an https address at {hosts}")))
    }

    fn admits(&self, url: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\' && byte != b'#';
        let Some((scheme, host, _)) = form::split(url) else { return false };
        url.len() <= 2048
            && url.bytes().all(plain)
            && scheme == "https"
            && form::path(url).ends_with(&self.ends)
            && self.hosts.iter().any(|pattern| fits(pattern, host))
    }
}

/// Neither a port nor a user name passes: they are no letters, digits and hyphens.
fn fits(pattern: &str, host: &str) -> bool {
    let label = |(wanted, found): (&str, &str)| match wanted {
        "*" => !found.is_empty() && found.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        _ => wanted.eq_ignore_ascii_case(found),
    };
    pattern.split('.').count() == host.split('.').count()
        && pattern.split('.').zip(host.split('.')).all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::At;

    #[test]
    fn addresses() {
        let fetch = Fetch {
            url: Address::At(Place { at: At::Query("u".to_owned()), cut: None }),
            hosts: vec!["sns.*.amazonaws.com".to_owned(), "sns.*.amazonaws.com.cn".to_owned()],
            ends: ".pem".to_owned(),
            gives: String::new(),
        };
        let check = |url: &str, expected: bool| assert_eq!(fetch.admits(url), expected, "{url}");
        check("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem", true);
        check("https://sns.cn-north-1.amazonaws.com.cn/x.pem", true);
        check("http://sns.eu-west-1.amazonaws.com/x.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/x.pem?y", true);
        check("https://sns.eu-west-1.amazonaws.com/x?y=.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/x#.pem", false);
        check("https://sns.eu-west-1.amazonaws.com.evil.example/x.pem", false);
        check("https://sns.a.b.amazonaws.com/x.pem", false);
        check("https://sns..amazonaws.com/x.pem", false);
        check("https://evil.example/sns.eu-west-1.amazonaws.com/x.pem", false);
        check("https://sns.eu-west-1.amazonaws.com:8443/x.pem", false);
        check("https://sns.eu-west-1.amazonaws.com@evil.example/x.pem", false);
        check("https://evil@sns.eu-west-1.amazonaws.com/x.pem", false);
        check("https://evil.example\\.sns.eu-west-1.amazonaws.com/x.pem", false);
        check("https://sns.eu_west.amazonaws.com/x.pem", false);
        check("https:///x.pem", false);
        check("", false);
    }
}
