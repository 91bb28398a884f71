//! Small changes to bytes that are good.

use arbitrary::{Result, Unstructured};

/// What parsers of headers, texts and JSON trip over.
const PIECES: [&str; 40] = [
    "",
    "=",
    ",",
    ";",
    ":",
    ".",
    " ",
    "\t",
    "\r\n",
    "\n",
    "\0",
    "\"",
    "'",
    "\\",
    "{",
    "}",
    "[",
    "]",
    "{{",
    "}}",
    "%",
    "%00",
    "&",
    "+",
    "-",
    "0",
    "1e999",
    "-1",
    "9223372036854775808",
    "v1=",
    "v0=",
    "t=",
    "sha1=",
    "sha256=",
    "AAAA",
    "====",
    "null",
    "\u{feff}",
    "é",
    "\u{202e}",
];

/// One to four changes.
pub(crate) fn bytes(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    for _ in 0..u.int_in_range(1..=4)? {
        one(u, bytes)?;
    }
    Ok(())
}

pub(crate) fn text(u: &mut Unstructured<'_>, text: &str) -> Result<String> {
    let mut changed = text.as_bytes().to_vec();
    bytes(u, &mut changed)?;
    Ok(String::from_utf8_lossy(&changed).into_owned())
}

fn one(u: &mut Unstructured<'_>, bytes: &mut Vec<u8>) -> Result<()> {
    let at = u.int_in_range(0..=bytes.len())?;
    let end = u.int_in_range(at..=bytes.len().min(at + 32))?;
    match u.int_in_range(0..=6)? {
        0 if at < bytes.len() => bytes[at] ^= 1 << u.int_in_range(0..=7)?,
        1 => drop(bytes.drain(at..end)),
        2 => {
            let piece = *u.choose(&PIECES)?;
            drop(bytes.splice(at..end, piece.bytes()));
        }
        3 => {
            let piece = *u.choose(&PIECES)?;
            drop(bytes.splice(at..at, piece.bytes()));
        }
        4 => {
            let copy = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, copy));
        }
        5 => bytes[at..end].iter_mut().for_each(|byte| {
            *byte =
                if byte.is_ascii_lowercase() { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
        }),
        _ => bytes.truncate(at),
    }
    Ok(())
}
