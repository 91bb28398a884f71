//! The event that every benchmark sends: JSON of a fixed size that begins with the time of its sending; and for the ingress a
//! push of the size and the form of GitHub's.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Bytes of an event's body.
pub(crate) const SIZE: usize = 1024;

pub(crate) const SECRET: &str = "the secret of this benchmark";

const BEFORE: &[u8] = br#"{"sent":""#;
const DIGITS: usize = 19;

/// `sent` is 0 where nobody asks when it was sent.
pub(crate) fn body(sent: u64) -> Vec<u8> {
    let head = format!(r#"{{"sent":"{sent:0>DIGITS$}","ref":"refs/heads/main","deleted":false,"filler":""#);
    let mut body = head.into_bytes();
    body.resize(SIZE - 2, b'x');
    body.extend_from_slice(b"\"}");
    body
}

/// Places of a repository that GitHub names in each delivery: most of its bytes.
const PLACES: [&str; 42] = [
    "forks",
    "keys",
    "collaborators",
    "teams",
    "hooks",
    "issue_events",
    "events",
    "assignees",
    "branches",
    "tags",
    "git_blobs",
    "git_tags",
    "git_refs",
    "trees",
    "statuses",
    "languages",
    "stargazers",
    "contributors",
    "subscribers",
    "subscription",
    "commits",
    "git_commits",
    "comments",
    "issue_comment",
    "contents",
    "compare",
    "merges",
    "archive",
    "downloads",
    "issues",
    "pulls",
    "milestones",
    "notifications",
    "labels",
    "releases",
    "deployments",
    "followers",
    "following",
    "gists",
    "starred",
    "organizations",
    "received_events",
];

/// A push of five commits, about 7 KiB.
pub(crate) fn push() -> Vec<u8> {
    let api = "https://api.github.com/repos/octo-org/site";
    let mut repository = json!({
        "id": 186_853_002, "node_id": "MDEwOlJlcG9zaXRvcnkxODY4NTMwMDI=", "name": "site", "full_name": "octo-org/site",
        "private": false, "default_branch": "main", "html_url": "https://github.com/octo-org/site",
    });
    for place in PLACES {
        repository[format!("{place}_url")] = format!("{api}/{place}{{/sha}}").into();
    }
    let person = |name: &str| json!({"name": name, "email": format!("{name}@example.com"), "username": name});
    let commits: Vec<Value> = (0_u32..5)
        .map(|number| {
            // No two commits look alike to a compressor.
            let id = hex::encode(&Sha256::digest(number.to_le_bytes())[..20]);
            json!({
                "id": id, "tree_id": hex::encode(&Sha256::digest(&id)[..20]), "distinct": true,
                "message": format!("Say hello on page {number}"), "timestamp": format!("2026-11-0{}T08:15:30Z", number + 1),
                "url": format!("https://github.com/octo-org/site/commit/{id}"),
                "author": person("mona"), "committer": person("hubot"),
                "added": [format!("pages/{number}.html")], "removed": [], "modified": ["index.html", "style.css"],
            })
        })
        .collect();
    json!({
        "ref": "refs/heads/main", "before": "6113728f27ae82c7b1a177c8d03f9e96e0adf246",
        "after": commits[4]["id"], "created": false, "deleted": false, "forced": false, "commits": commits,
        "head_commit": commits[4], "pusher": person("mona"), "repository": repository,
    })
    .to_string()
    .into_bytes()
}

/// When it was sent; `None` where nobody asked, or for a body that is not ours.
pub(crate) fn sent(body: &[u8]) -> Option<u64> {
    let digits = body.strip_prefix(BEFORE)?.get(..DIGITS)?;
    let sent = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (sent > 0).then_some(sent)
}

/// As GitHub signs it.
pub(crate) fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(body);
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_has_the_size_of_githubs() {
        assert!((6 * 1024..8 * 1024).contains(&push().len()), "{} bytes", push().len());
    }

    #[test]
    fn a_body_says_when_it_was_sent() {
        for sent in [1, 1_234_567_890_123, u64::from(u32::MAX)] {
            let body = body(sent);
            assert_eq!(body.len(), SIZE);
            assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "it is JSON");
            assert_eq!(super::sent(&body), Some(sent));
        }
        assert_eq!(sent(&body(0)), None);
        assert_eq!(sent(b"{}"), None);
    }
}
