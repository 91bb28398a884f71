//! What the head of a request alone shows, and what is counted in it.

use jiff::Timestamp;
use serde_json::{Map, json};

use crate::{Rejection, Request, Scheme, Secret, algorithm::Hash, encoding::Encoding};

const NOW: i64 = 1_614_265_330;

fn scheme(name: &str) -> Scheme {
    Scheme::builtin(name, &Map::new()).expect("a scheme")
}

fn judge(scheme: &Scheme, method: &str, headers: &[(&str, &str)]) -> Result<(), Rejection> {
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let request = Request { method, url: "/hooks/x", headers: &headers, body: b"" };
    scheme.check_head(&request, Timestamp::from_second(NOW).ok())
}

#[test]
fn a_head_that_cannot_become_authentic_is_refused_by_itself() {
    let standard = scheme("standard-webhooks");
    let check = |headers: &[(&str, &str)], expected: Option<&str>| {
        let found = judge(&standard, "POST", headers).err().map(|rejection| rejection.to_string());
        assert_eq!(found.as_deref(), expected, "{headers:?}");
    };
    let (id, time, signed) =
        (("webhook-id", "m"), ("webhook-timestamp", "1614265330"), ("webhook-signature", "v1,AAAA"));
    check(&[id, time, signed], None);
    check(&[id, time], Some("header webhook-signature is missing or empty"));
    check(&[time, signed], Some("header webhook-id is missing or empty"));
    check(&[id, signed], Some("header webhook-timestamp is missing or empty"));
    check(&[id, time, signed, signed], Some("header webhook-signature came more than once"));
    let old = ("webhook-timestamp", "1614265000");
    check(&[id, old, signed], Some("timestamp is 330 s away, more than the 300 s allowed"));
}

#[test]
fn what_stands_in_the_body_is_not_asked_of_the_head() {
    assert_eq!(judge(&scheme("mailgun"), "POST", &[]), Ok(()));
    // The id is needed where it is signed, and nowhere else.
    let github = [("x-hub-signature-256", "sha256=00")];
    assert_eq!(judge(&scheme("github"), "POST", &github), Ok(()));
    // A question is judged whole.
    assert_eq!(judge(&scheme("standard-webhooks"), "GET", &[]), Ok(()));
    // One of two places is enough, whichever it is; none is not.
    let time = ("box-delivery-timestamp", "2021-02-25T15:02:10Z");
    for signature in ["box-signature-primary", "box-signature-secondary"] {
        assert_eq!(judge(&scheme("box"), "POST", &[time, (signature, "AAAA")]), Ok(()));
    }
    let missing = Rejection::Missing("header box-signature-primary".to_owned());
    assert_eq!(judge(&scheme("box"), "POST", &[time]), Err(missing));
}

#[test]
fn what_is_not_there_is_named_and_what_is_there_is_compared() {
    let standard = scheme("standard-webhooks");
    let secrets = [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")];
    let verify = |signature: Option<&str>| {
        let mut headers = vec![
            ("webhook-id".to_owned(), b"m".to_vec()),
            ("webhook-timestamp".to_owned(), b"1614265330".to_vec()),
        ];
        headers.extend(signature.map(|value| ("webhook-signature".to_owned(), value.as_bytes().to_vec())));
        let request = Request { method: "POST", url: "/", headers: &headers, body: b"{}" };
        standard.verify(&request, &secrets, None).expect_err("nobody signed it").to_string()
    };
    assert_eq!(verify(None), "header webhook-signature is missing or empty");
    assert_eq!(verify(Some("v2,AAAA")), "signature does not match");
    // As many as a provider sends while it rotates, and not one more.
    assert_eq!(verify(Some(["v1,AAAA"; 8].join(" ").as_str())), "signature does not match");
    let many = "header webhook-signature is malformed: it holds more than 8 signatures";
    assert_eq!(verify(Some(["v1,AAAA"; 9].join(" ").as_str())), many);
}

#[test]
fn an_address_that_nobody_knows_is_told() {
    let square = scheme("square");
    let headers = [("x-square-hmacsha256-signature".to_owned(), b"AAAA".to_vec())];
    let told = |scheme: &Scheme, url: &str| {
        let request = Request { method: "POST", url, headers: &headers, body: b"{}" };
        scheme.verify(&request, &[Secret::new("k")], None).expect_err("nobody signed it").to_string()
    };
    assert!(told(&square, "/hooks/x").contains("which is not known"));
    assert_eq!(told(&square, "https://a.example/hooks/x"), "signature does not match");
    let options = json!({"url": "https://a.example/hooks/x"});
    let square = Scheme::builtin("square", options.as_object().expect("a table")).expect("good options");
    assert_eq!(told(&square, "/hooks/x?a=b"), "signature does not match");
}

#[test]
fn an_address_is_signed_as_the_option_says_with_the_query_that_came() {
    let options = json!({"url": "https://a.example/hooks/x"});
    let square = Scheme::builtin("square", options.as_object().expect("a table")).expect("good options");
    for query in ["", "?a=b"] {
        let url = format!("https://a.example/hooks/x{query}");
        let signature = Hash::Sha256.hmac(b"k", &[url.as_bytes().into(), b"{}".as_slice().into()]);
        let value = Encoding::Base64.encode(&signature).into_bytes();
        let headers = [("x-square-hmacsha256-signature".to_owned(), value)];
        let local = format!("/hooks/x{query}");
        let request = Request { method: "POST", url: &local, headers: &headers, body: b"{}" };
        square.verify(&request, &[Secret::new("k")], None).expect("signed");
    }
}

/// A secret of the trigger has no name, whatever a token calls its key.
#[test]
fn a_token_may_name_its_key() {
    let netlify = scheme("netlify");
    let claims = format!(
        "{{\"iss\":\"netlify\",\"sha256\":\"{}\"}}",
        hex::encode(Hash::Sha256.digest(&[b"{}".as_slice().into()]))
    );
    for header in ["{\"alg\":\"HS256\"}", "{\"alg\":\"HS256\",\"kid\":\"another\"}"] {
        let part = |text: &str| Encoding::Base64Url.encode(text.as_bytes());
        let input = format!("{}.{}", part(header), part(&claims));
        let signature = Hash::Sha256.hmac(b"k", &[input.as_bytes().into()]);
        let token = format!("{input}.{}", Encoding::Base64Url.encode(&signature));
        let headers = [("x-webhook-signature".to_owned(), token.into_bytes())];
        let request = Request { method: "POST", url: "/", headers: &headers, body: b"{}" };
        netlify.verify(&request, &[Secret::new("k")], None).expect("signed");
        assert_eq!(netlify.verify(&request, &[Secret::new("l")], None), Err(Rejection::Mismatch));
    }
}
