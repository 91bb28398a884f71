//! As much of HTTP/1.1 as a cheap sender of webhooks needs: requests made once, answers told apart by their length.

use anyhow::{Context, bail};

use crate::payload;

/// A delivery as GitHub makes it; `delivery` is its dedupe key.
pub(super) fn request(host: &str, path: &str, delivery: &str, body: &[u8], signature: &str) -> Vec<u8> {
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         User-Agent: hetuflow-bench\r\nX-GitHub-Event: push\r\nX-GitHub-Delivery: {delivery}\r\n\
         X-Hub-Signature-256: {signature}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// Deliveries that differ in their number only, so that one signature serves for all.
pub(super) struct Template {
    bytes: Vec<u8>,
    number: std::ops::Range<usize>,
}

const DIGITS: usize = 12;

impl Template {
    /// `series` makes the deliveries others than those of another series.
    pub(super) fn new(host: &str, path: &str, series: u64, body: &[u8]) -> anyhow::Result<Self> {
        let mark = "#".repeat(DIGITS);
        let delivery = format!("{series}-{mark}");
        let bytes = request(host, path, &delivery, body, &payload::signature(body));
        let start = bytes.windows(DIGITS).position(|part| part == mark.as_bytes());
        let start = start.context("the mark is in the request")?;
        Ok(Self { bytes, number: start..start + DIGITS })
    }

    pub(super) fn write(&self, number: u64, to: &mut Vec<u8>) {
        let from = to.len();
        to.extend_from_slice(&self.bytes);
        let digits = format!("{number:0DIGITS$}");
        to[from + self.number.start..from + self.number.end].copy_from_slice(digits.as_bytes());
    }
}

/// The status and the whole length of the answer at the front; `None` while it is not complete.
pub(super) fn answer(bytes: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let Some(head) = bytes.windows(4).position(|part| part == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&bytes[..head]).context("an answer's head is no text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(length)) = (status, length) else { bail!("not understood: {text}") };
    let whole = head + 4 + length;
    Ok((bytes.len() >= whole).then_some((status, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        let two = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n";
        assert_eq!(answer(two).expect("HTTP"), Some((202, 46)));
        assert_eq!(answer(&two[..45]).expect("HTTP"), None);
        assert_eq!(answer(&two[46..]).expect("HTTP"), None);
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn only_the_number_differs() {
        let template = Template::new("h", "/hooks/x", 3, b"{}").expect("a template");
        let (mut one, mut two) = (Vec::new(), Vec::new());
        template.write(7, &mut one);
        template.write(8, &mut two);
        assert_eq!(one.iter().zip(&two).filter(|(a, b)| a != b).count(), 1);
        assert!(String::from_utf8(one).expect("text").contains("X-GitHub-Delivery: 3-000000000007\r\n"));
    }
}
