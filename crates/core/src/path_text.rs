//! Paths as text. A path is bytes, and most are UTF-8: those are their own text. Of the others each byte that is not part of
//! UTF-8, and each `%`, is written as `%` and two hexadecimal digits. Which of the two a text is must be said beside it,
//! because in an ordinary name a `%` is a `%`. The one place that knows; used for events, and by agents for what they store.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt::Write as _,
    os::unix::ffi::{OsStrExt, OsStringExt},
};

/// The text, and whether it is encoded.
#[must_use]
pub fn of(path: &OsStr) -> (Cow<'_, str>, bool) {
    path.to_str().map_or_else(|| (encode(path).into(), true), |text| (text.into(), false))
}

/// Encoded, whatever it is.
#[must_use]
pub fn encode(path: &OsStr) -> String {
    let mut text = String::with_capacity(path.len() + 16);
    let escape = |byte: u8, text: &mut String| {
        // Writing to a text cannot fail.
        let _ = write!(text, "%{byte:02X}");
    };
    for chunk in path.as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' { escape(b'%', &mut text) } else { text.push(character) }
        }
        chunk.invalid().iter().for_each(|byte| escape(*byte, &mut text));
    }
    text
}

/// `None`: it is no encoded text.
#[must_use]
pub fn decode(text: &str) -> Option<OsString> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+'))?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(OsString::from_vec(bytes))
}

/// To be shown, where nothing is said beside it.
#[must_use]
pub fn show(path: impl AsRef<OsStr>) -> String {
    of(path.as_ref()).0.into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_not_utf8_is_encoded() {
        let check = |bytes: &[u8], expected: (&str, bool)| {
            let found = of(OsStr::from_bytes(bytes));
            assert_eq!((found.0.as_ref(), found.1), expected);
        };
        check("/in/ä 100%.csv".as_bytes(), ("/in/ä 100%.csv", false));
        check(b"/in/a%FF.csv", ("/in/a%FF.csv", false));
        check(b"/in/a\xFF.csv", ("/in/a%FF.csv", true));
        check(b"/100%/\xC3\xA4\xC3", ("/100%25/ä%C3", true));
        for text in ["%", "%F", "%GG", "%+1", "a%ä"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(bytes: Vec<u8>) {
            let path = OsString::from_vec(bytes);
            prop_assert_eq!(decode(&encode(&path)), Some(path.clone()));
            let (text, encoded) = of(&path);
            prop_assert_eq!(encoded, path.to_str().is_none());
            prop_assert!(encoded || text == path.to_str().unwrap_or_default());
        }
    }
}
