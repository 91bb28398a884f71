//! Scheme files: those that are built in, with lines changed, moved and taken from others. What is read reads the same
//! again, and what cannot be used says so without a word of a secret.

use arbitrary::{Result, Unstructured};
use hetuflow_signature::{Request, Scheme, Secret, vector};

use super::Attempt;
use crate::mutate;

/// No file has it.
const SECRET: &str = "whsec_c2VjcmV0LW9mLXRoZS1mdXp6ZXI";

pub(super) fn target(files: Vec<(String, String)>) -> Attempt {
    let rules: Vec<Vec<String>> =
        files.into_iter().map(|(_, text)| text.lines().map(str::to_owned).collect()).collect();
    Box::new(move |u| attempt(u, &rules))
}

fn attempt(u: &mut Unstructured<'_>, rules: &[Vec<String>]) -> Result<()> {
    let mut lines = u.choose(rules)?.clone();
    for _ in 0..u.int_in_range(1..=4)? {
        let at = u.choose_index(lines.len())?;
        match u.int_in_range(0..=4)? {
            0 => lines[at] = mutate::text(u, &lines[at])?,
            1 if lines.len() > 1 => drop(lines.remove(at)),
            2 => lines.insert(at, line(u, rules)?),
            3 => lines[at] = line(u, rules)?,
            _ => {
                let other = u.choose_index(lines.len())?;
                lines.swap(at, other);
            }
        }
    }
    let text = lines.join("\n");
    match (Scheme::parse("fuzzed", &text), Scheme::parse("fuzzed", &text)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.row(), second.row(), "it reads otherwise the second time");
            assert_eq!(first.warnings(), second.warnings());
            noise(u, &first)?;
        }
        (Err(first), Err(second)) => assert_eq!(first, second),
        (first, second) => panic!("once {:?}, once {:?}", first.map(drop), second.map(drop)),
    }
    if let Ok(results) = vector::run_scheme("fuzzed", &text) {
        assert!(results.iter().all(|row| !row.detail.is_empty()), "a row says nothing");
    }
    Ok(())
}

fn line(u: &mut Unstructured<'_>, rules: &[Vec<String>]) -> Result<String> {
    let rule = u.choose(rules)?;
    u.choose(rule).cloned()
}

/// Nothing authentic comes: nobody knows the secret.
fn noise(u: &mut Unstructured<'_>, scheme: &Scheme) -> Result<()> {
    let secret = Secret::new(SECRET);
    if let Err(why) = scheme.check_secret(&secret) {
        assert!(!why.contains(SECRET), "the secret is told: {why}");
    }
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    for name in scheme.secret_headers() {
        headers.push((name, u.arbitrary::<Vec<u8>>()?));
    }
    let request = Request { method: "POST", url: "https://a.example/?b=c", headers: &headers, body: b"{}" };
    match scheme.verify(&request, &[secret], None) {
        Ok(_) => panic!("noise is accepted"),
        Err(rejection) => {
            assert!(!rejection.to_string().contains(SECRET), "the secret is told: {rejection}");
        }
    }
    Ok(())
}
