//! Names that are made from the name of a file: `{name}.done`, `archive/{date:%Y/%m}/{stem}-old.{ext}`. One brace, because
//! these are not the templates of jobs: they see nothing that came from outside but the file's own name.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
};

use jiff::Zoned;

/// A compiled one; it cannot leave the directory that it is resolved in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    Stem,
    Extension,
    Date(String),
}

const ALLOWED: &str = "{name}, {stem}, {ext} and {date:%Y-%m-%d}";

impl NameTemplate {
    /// A name in the directory of the file. An error says in a sentence what is allowed.
    pub fn name(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Err(format!("{text:?} is a path: name a file beside the file"));
        }
        let template = Self::path(text)?;
        if template.expand("a.b", &Zoned::default()) == "a.b" {
            return Err(format!("{text:?} is the file itself"));
        }
        Ok(template)
    }

    /// A path below some directory. One that ends with a slash is a directory, in which the file keeps its name.
    pub fn path(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.starts_with('/') {
            return Err(format!("{text:?} is not a path below the directory where the glob starts"));
        }
        if text.split('/').any(|part| part == ".." || part == ".") {
            return Err(format!("{text:?} must not have \".\" or \"..\""));
        }
        let mut pieces = pieces(text)?;
        if text.ends_with('/') {
            pieces.push(Piece::Name);
        }
        Ok(Self(pieces))
    }

    /// The text before the first hole, up to its last slash: where everything that it makes is.
    #[must_use]
    pub fn directory(&self) -> Option<&str> {
        let Some(Piece::Text(text)) = self.0.first() else { return None };
        text.rsplit_once('/').map(|(directory, _)| directory)
    }

    /// Whether different files have different names by it.
    #[must_use]
    pub fn is_of_one_file(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Name | Piece::Stem))
    }

    /// A glob of every name that it can make.
    #[must_use]
    pub fn glob(&self) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => globset::escape(text),
            Piece::Name | Piece::Stem | Piece::Extension | Piece::Date(_) => "*".to_owned(),
        };
        self.0.iter().map(piece).collect()
    }

    #[must_use]
    pub fn expand(&self, name: impl AsRef<OsStr>, at: &Zoned) -> OsString {
        let name = name.as_ref().as_bytes();
        let (stem, extension): (&[u8], &[u8]) = match name.iter().rposition(|byte| *byte == b'.') {
            Some(dot) if dot > 0 => (&name[..dot], &name[dot + 1..]),
            _ => (name, b""),
        };
        let mut made = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => made.extend_from_slice(text.as_bytes()),
                Piece::Name => made.extend_from_slice(name),
                Piece::Stem => made.extend_from_slice(stem),
                Piece::Extension => made.extend_from_slice(extension),
                Piece::Date(format) => made.extend_from_slice(at.strftime(format).to_string().as_bytes()),
            }
        }
        OsString::from_vec(made)
    }
}

fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((hole, after)) = after.split_once('}') else {
            return Err(format!("{text:?} has a {{ without its }}: {ALLOWED} are replaced"));
        };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        pieces.push(piece(hole)?);
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("{text:?} has a }} without its {{: {ALLOWED} are replaced"));
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn piece(hole: &str) -> Result<Piece, String> {
    match hole {
        "name" => Ok(Piece::Name),
        "stem" => Ok(Piece::Stem),
        "ext" => Ok(Piece::Extension),
        _ => match hole.strip_prefix("date:") {
            Some(format) => date(format),
            None => Err(format!("{{{hole}}} is not known: {ALLOWED} are replaced")),
        },
    }
}

fn date(format: &str) -> Result<Piece, String> {
    let sample = Zoned::default();
    let written = jiff::fmt::strtime::format(format, &sample)
        .map_err(|error| format!("{{date:{format}}} is no form of a date: {error}"))?;
    let leaves =
        written.starts_with('/') || written.split('/').any(|part| part.is_empty() || part.starts_with('.'));
    if leaves {
        return Err(format!("{{date:{format}}} is no part of a path"));
    }
    Ok(Piece::Date(format.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths() {
        let at: Zoned = "2026-03-04T05:06:07[UTC]".parse().expect("a time");
        let expand = |text: &str, name: &str| {
            let made = NameTemplate::path(text).map(|path| path.expand(name, &at));
            made.map(|made| made.into_string().expect("text of text"))
        };
        assert_eq!(expand("{name}.done", "a.csv").as_deref(), Ok("a.csv.done"));
        assert_eq!(expand("{stem}-{ext}", "a.tar.gz").as_deref(), Ok("a.tar-gz"));
        assert_eq!(expand("{stem}.{ext}", ".profile").as_deref(), Ok(".profile."));
        assert_eq!(expand("old/{date:%Y/%m}/", "a b").as_deref(), Ok("old/2026/03/a b"));
        assert_eq!(NameTemplate::path("old/x/{name}").expect("sound").directory(), Some("old/x"));
        assert_eq!(NameTemplate::path("{name}.old").expect("sound").directory(), None);
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            "/x",
            "../x",
            "a/../b",
            "./a",
            "{nam}",
            "{name",
            "name}",
            "{date:%E}",
            "{date:/%Y}",
            "{date:..}",
        ] {
            assert!(NameTemplate::path(text).is_err(), "{text}");
        }
        for text in ["a/{name}", "{name}", "{stem}.{ext}"] {
            assert!(NameTemplate::name(text).is_err(), "{text}");
        }
    }
}
