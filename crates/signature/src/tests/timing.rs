//! C07: how long a comparison takes must not tell where the first difference is. Measured, after dudect: two classes of
//! wrong signatures in turns that chance decides, and Welch's t over how long each took. An instrument that sees
//! nothing proves nothing, so it is shown a comparison that does stop at the first difference.

use std::{hint::black_box, time::Instant};

use serde_json::Map;

use crate::{Request, Scheme, Secret};

const BLOCKS: usize = 15;
const SAMPLES: usize = 2_000;
/// Beyond this the classes differ, says dudect.
const MOST: f64 = 4.5;

#[derive(Clone, Copy)]
enum Wrong {
    First,
    Last,
}

/// The bytes with one of them changed to another letter.
fn with(good: &[u8], wrong: Wrong) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let at = match wrong {
        Wrong::First => 0,
        Wrong::Last => bytes.len() - 1,
    };
    bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
    bytes
}

/// The middle of the blocks' |t|: a moment in which the machine had much else to do spoils one block, not all of them.
fn measure(mut take: impl FnMut(Wrong)) -> f64 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut blocks: Vec<f64> = (0..BLOCKS)
        .map(|_| {
            let (mut first, mut last) = (Vec::new(), Vec::new());
            for _ in 0..SAMPLES {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let (wrong, times) =
                    if state & 1 == 0 { (Wrong::First, &mut first) } else { (Wrong::Last, &mut last) };
                let begun = Instant::now();
                take(wrong);
                times.push(begun.elapsed().as_secs_f64());
            }
            welch(&mut first, &mut last).abs()
        })
        .collect();
    blocks.sort_by(f64::total_cmp);
    blocks[BLOCKS / 2]
}

/// Without the slowest tenth, which interruptions make.
fn welch(a: &mut Vec<f64>, b: &mut Vec<f64>) -> f64 {
    let of = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times.truncate(times.len() * 9 / 10);
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let count = times.len() as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean_a, var_a), (mean_b, var_b)) = (of(a), of(b));
    (mean_a - mean_b) / (var_a + var_b).sqrt()
}

fn scheme(name: &str) -> Scheme {
    Scheme::builtin(name, &Map::new()).expect("a scheme")
}

#[test]
#[ignore = "it measures time, which a busy machine spoils: cargo test -p hetuflow-signature c07 -- --ignored"]
fn c07_a_comparison_takes_as_long_wherever_the_difference_is() {
    let secret = "s".repeat(256);
    let good = secret.as_bytes();
    let wrong = [with(good, Wrong::First), with(good, Wrong::Last)];
    let stops_early = measure(|class| {
        black_box(good.iter().zip(&wrong[class as usize]).all(|(a, b)| black_box(a) == black_box(b)));
    });
    assert!(stops_early > 10.0 * MOST, "the instrument is blind: {stops_early}");

    let telegram = scheme("telegram");
    let secrets = [Secret::new(secret.clone())];
    let heads = wrong.map(|token| [("x-telegram-bot-api-secret-token".to_owned(), token)]);
    let of_token = measure(|class| judge(&telegram, &heads[class as usize], &secrets));
    assert!(of_token < MOST, "a token: t = {of_token}");

    let github = scheme("github");
    let signed = github.sign(&secrets[0], b"{}", "d", "push", jiff::Timestamp::UNIX_EPOCH).expect("signed");
    let hex = signed.iter().find_map(|(_, value)| value.strip_prefix("sha256=")).expect("a signature");
    let heads = [Wrong::First, Wrong::Last].map(|class| {
        let value = [b"sha256=".as_slice(), &with(hex.as_bytes(), class)].concat();
        [("x-hub-signature-256".to_owned(), value)]
    });
    let of_hmac = measure(|class| judge(&github, &heads[class as usize], &secrets));
    assert!(of_hmac < MOST, "an HMAC: t = {of_hmac}");
}

fn judge(scheme: &Scheme, headers: &[(String, Vec<u8>)], secrets: &[Secret]) {
    let request = Request { method: "POST", url: "/", headers, body: b"{}" };
    let judged = black_box(scheme.verify(black_box(&request), secrets, None));
    assert!(judged.is_err());
}
