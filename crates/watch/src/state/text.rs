//! Paths and names as the state file has them. One that is not UTF-8 is percent-encoded after `//`, with which no other
//! begins.

use std::{borrow::Cow, ffi::OsStr, path::PathBuf};

use hetuflow_core::path_text;

const ENCODED: &str = "//";

pub(crate) fn text(path: &(impl AsRef<OsStr> + ?Sized)) -> Cow<'_, str> {
    match path_text::of(path.as_ref()) {
        (text, false) => text,
        (text, true) => format!("{ENCODED}{text}").into(),
    }
}

pub(crate) fn path(text: &str) -> PathBuf {
    let decoded = text.strip_prefix(ENCODED).and_then(path_text::decode);
    decoded.map_or_else(|| PathBuf::from(text), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::ffi::OsStrExt, path::Path};

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (bytes, expected) in [
            (&b"/in/100%FF"[..], "/in/100%FF"),
            (b"/in/100%\xFF", "///in/100%25%FF"),
            (b"a\xFF", "//a%FF"),
            (b"%2F", "%2F"),
        ] {
            let found = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(text(found), expected);
            assert_eq!(path(expected), found);
        }
    }
}
