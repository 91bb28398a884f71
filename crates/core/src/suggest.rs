//! "Did you mean": which of the allowed words somebody may have had in mind. Also for the messages of
//! `hetuflow-signature`, which is why it is public.

/// The allowed word that is closest, if any is close.
#[must_use]
pub fn closest<'a>(wrong: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    allowed
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&normal(wrong), &normal(word)), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `did you mean "x"? Allowed: x, y, z`
#[must_use]
pub fn among(wrong: &str, allowed: &[&str]) -> String {
    let list = allowed.join(", ");
    match closest(wrong, allowed.iter().copied()) {
        Some(word) => format!("did you mean {word:?}? Allowed: {list}"),
        None => format!("allowed: {list}"),
    }
}

/// `Max-Retries` and `max_retries` are the same mistake's two sides.
fn normal(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}
