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
    /// Patterns; `*` is one label of letters, digits and hyphens, `<region>` one as `us-east-1`.
    pub(crate) hosts: Vec<String>,
    /// A pattern of the path, of an address without a query; `*` is letters, digits and hyphens. Empty: any, with one.
    pub(crate) path: String,
    /// For messages.
    pub(crate) gives: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Fixed(String),
    At(Place),
}

impl Fetch {
    pub(crate) const fn is_fixed(&self) -> bool {
        matches!(self.url, Address::Fixed(_))
    }

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
        let Some((scheme, host, rest)) = form::split(url) else { return false };
        url.len() <= 2048
            && url.bytes().all(plain)
            && scheme == "https"
            && (self.path.is_empty() || fits_path(&self.path, rest))
            && self.hosts.iter().any(|pattern| fits(pattern, host))
    }
}

/// `rest` is what follows the host, whole: a query is no letters, digits and hyphens.
fn fits_path(pattern: &str, rest: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return rest == pattern };
    let open = rest.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    open.is_some_and(is_word)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// `us-gov-west-1`: a label of any other form may be a name that somebody has chosen, such as that of a bucket.
fn is_region(label: &str) -> bool {
    let mut parts: Vec<&str> = label.split('-').collect();
    let number = parts.pop().unwrap_or_default();
    let letters = |part: &&str| part.len() >= 2 && part.bytes().all(|byte| byte.is_ascii_lowercase());
    parts.len() >= 2
        && parts.iter().all(letters)
        && (1..=2).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Neither a port nor a user name passes: they are no letters, digits and hyphens.
fn fits(pattern: &str, host: &str) -> bool {
    let label = |(wanted, found): (&str, &str)| match wanted {
        "*" => is_word(found),
        "<region>" => is_region(found),
        _ => wanted.eq_ignore_ascii_case(found),
    };
    pattern.split('.').count() == host.split('.').count()
        && pattern.split('.').zip(host.split('.')).all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::At;

    fn fetch(path: &str) -> Fetch {
        Fetch {
            url: Address::At(Place { at: At::Query("u".to_owned()), cut: None }),
            hosts: vec!["sns.<region>.amazonaws.com".to_owned(), "*.example".to_owned()],
            path: path.to_owned(),
            gives: String::new(),
        }
    }

    #[test]
    fn addresses() {
        let fetch = fetch("/Service-*.pem");
        let check = |url: &str, expected: bool| assert_eq!(fetch.admits(url), expected, "{url}");
        check("https://sns.eu-west-1.amazonaws.com/Service-0a1.pem", true);
        check("https://a-b.example/Service-1.pem", true);
        check("http://sns.eu-west-1.amazonaws.com/Service-1.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/Service-1.pem?", false);
        check("https://sns.eu-west-1.amazonaws.com/Service-1.pem?y", false);
        check("https://sns.eu-west-1.amazonaws.com/?/Service-1.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/x?y=.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/x#.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/Service-.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/Service-a/b.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/Service-%2e.pem", false);
        check("https://sns.eu-west-1.amazonaws.com/a/Service-1.pem", false);
        check("https://sns.eu-west-1.amazonaws.com", false);
        check("https://sns.eu-west-1.amazonaws.com.evil.example/Service-1.pem", false);
        check("https://sns.a.b.amazonaws.com/Service-1.pem", false);
        check("https://sns..amazonaws.com/Service-1.pem", false);
        check("https://evil.com/sns.eu-west-1.amazonaws.com/Service-1.pem", false);
        check("https://sns.eu-west-1.amazonaws.com:8443/Service-1.pem", false);
        check("https://sns.eu-west-1.amazonaws.com@evil.com/Service-1.pem", false);
        check("https://evil@sns.eu-west-1.amazonaws.com/Service-1.pem", false);
        check("https://evil.com\\.sns.eu-west-1.amazonaws.com/Service-1.pem", false);
        check("https:///Service-1.pem", false);
        check("", false);
    }

    #[test]
    fn no_key_is_needed_for_what_none_can_prove() {
        let options = serde_json::json!({"topic": "t"});
        let scheme =
            crate::Scheme::builtin("sns", options.as_object().expect("an object")).expect("a scheme");
        let now = "2026-01-15T10:20:41Z".parse().expect("a timestamp");
        let check = |change: &str, to: &str, expected: bool| {
            let body = r#"{"Type":"Notification","Signature":"AAAA","Timestamp":"2026-01-15T10:20:41Z","TopicArn":"t",
                "SigningCertURL":"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"}"#;
            let body = body.replace(change, to);
            let request = crate::Request { method: "POST", url: "/", headers: &[], body: body.as_bytes() };
            let judged = scheme.verify(&request, &[], Some(now));
            let needed = matches!(judged, Err(Rejection::KeyNeeded { by_sender: true, .. }));
            assert_eq!(needed, expected, "{change}: {judged:?}");
        };
        check("", "", true);
        check("\"Type\"", "\"Other\"", false);
        check("\"Signature\"", "\"Other\"", false);
        check("2026-01-15", "2026-01-14", false);
        check("\"TopicArn\":\"t\"", "\"TopicArn\":\"u\"", false);
    }

    #[test]
    fn a_bucket_is_no_region() {
        let fetch = fetch("");
        let check = |label: &str, expected: bool| {
            let url = format!("https://sns.{label}.amazonaws.com/x?y");
            assert_eq!(fetch.admits(&url), expected, "{url}");
        };
        for region in ["us-east-1", "us-gov-west-1", "ap-southeast-2", "cn-north-1", "us-iso-east-1"] {
            check(region, true);
        }
        for other in [
            "s3",
            "s3-us-west-2",
            "s3-website-us-east-1",
            "x1",
            "xN",
            "eu_west",
            "EU-WEST-1",
            "eu-west",
            "e-w-1",
        ] {
            check(other, false);
        }
    }

    #[test]
    fn only_a_certificate_of_the_service_is_fetched() {
        let admits = |scheme: &str, url: &str| {
            let options = match scheme {
                "paypal" => serde_json::json!({"webhook_id": "1"}),
                _ => serde_json::json!({"topic": "t"}),
            };
            let scheme =
                crate::Scheme::builtin(scheme, options.as_object().expect("an object")).expect("a scheme");
            scheme.signatures.iter().filter_map(|rule| rule.key.fetch.as_ref()).all(|fetch| fetch.admits(url))
        };
        for sns in ["sns", "sns-v1"] {
            assert!(admits(sns, "https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-0a1.pem"));
            assert!(admits(sns, "https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0a1.pem"));
            assert!(!admits(sns, "https://sns.s3.amazonaws.com/SimpleNotificationService-0a1.pem"));
            assert!(!admits(sns, "https://sns.us-east-1.amazonaws.com/x.pem"));
            assert!(!admits(sns, "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem?a"));
        }
        assert!(admits(
            "paypal",
            "https://api.paypal.com/v1/notifications/certs/CERT-360caa42-fca2a594-1d93a270"
        ));
        assert!(!admits("paypal", "https://api.paypal.com/v1/notifications/certs/../x"));
        assert!(!admits("paypal", "https://api.paypal.com/x"));
    }
}
