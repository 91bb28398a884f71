//! What lies beside a file or in it and proves that it is whole: a marker, a checksum, a last line, first bytes. Reads
//! files, and so runs only for those that are quiet already.

use std::{
    io::{self, Read, Seek, SeekFrom},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use hetuflow_core::{
    path_text,
    trigger::{FileField, FileSource, MarkerAfter, NameTemplate, Verify},
};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    digest::digest,
    ground::Ground,
    lease::{self, Writer},
    probe::Seen,
    rule::RuleError,
    version::Version,
};

#[derive(Debug, Clone)]
pub(crate) struct Proof {
    marker: Option<NameTemplate>,
    /// They are in it, because it is a directory.
    inside: bool,
    /// The marker of a file goes once the file is taken.
    removes: bool,
    check: Option<Check>,
    /// The trigger wants to know the digest, whatever proves the file.
    digest: bool,
}

#[derive(Debug, Clone)]
enum Check {
    Sha256(NameTemplate),
    LastLine(String),
    Magic(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proven {
    Yes {
        sha256: Option<String>,
    },
    /// What is missing may come; `beside` is where.
    NotYet {
        beside: Option<PathBuf>,
        why: String,
    },
    No(String),
    /// Its digest decides, and is not known.
    Unhashed,
}

/// Bytes of a file of checksums that are read, at most.
const MAX_CHECKSUMS: u64 = 64 * 1024;

impl Proof {
    pub(crate) fn compile(source: &FileSource) -> Result<Self, RuleError> {
        let name = |text: &String| NameTemplate::name(text).map_err(RuleError);
        let check = source.verify.as_ref().map(|verify| match verify {
            Verify::Sha256(beside) => name(beside).map(Check::Sha256),
            Verify::LastLine(line) => Ok(Check::LastLine(line.clone())),
            Verify::Magic(bytes) => Ok(Check::Magic(bytes.clone())),
        });
        Ok(Self {
            marker: source.done_marker.as_ref().map(name).transpose()?,
            inside: source.tells_directories(),
            removes: source.done_marker_after == MarkerAfter::Remove,
            check: check.transpose()?,
            digest: source.dedupe.key.contains(&FileField::Sha256),
        })
    }

    /// Proves nothing, but knows the digest where that is asked for.
    pub(crate) fn digest_only(source: &FileSource) -> Self {
        let of_check = matches!(source.verify, Some(Verify::Sha256(_)));
        let digest = of_check || source.dedupe.key.contains(&FileField::Sha256);
        Self { marker: None, inside: false, removes: false, check: None, digest }
    }

    /// The marker that is to be removed once the file is taken, as it is now.
    pub(crate) fn spent_marker(
        &self,
        ground: &Ground,
        path: &Path,
        at: Timestamp,
    ) -> Option<(PathBuf, Version)> {
        let template =
            self.marker.as_ref().filter(|marker| self.removes && !self.inside && marker.is_of_one_file())?;
        let marker = beside(template, path, at)?;
        match ground.see(&marker) {
            Seen::File(fact) => Some((marker, fact.version)),
            Seen::Directory(_) | Seen::Other | Seen::Absent | Seen::Unknown(_) => None,
        }
    }

    /// Whether nothing is asked for: then nothing is looked at.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.marker.is_none() && self.check.is_none() && !self.digest
    }

    /// However long it takes to read the file.
    pub(crate) fn prove_at_once(&self, ground: &Ground, path: &Path, at: Timestamp) -> Proven {
        match self.prove(ground, path, at, None) {
            Proven::Unhashed => match digest(ground, path, None) {
                Ok(digest) => self.prove(ground, path, at, Some(&digest)),
                Err(error) => unreadable(&error),
            },
            proven @ (Proven::Yes { .. } | Proven::NotYet { .. } | Proven::No(_)) => proven,
        }
    }

    /// `at` is for dates in names, `digest` what is known of the file's.
    pub(crate) fn prove(&self, ground: &Ground, path: &Path, at: Timestamp, digest: Option<&str>) -> Proven {
        let place = if self.inside { inside } else { beside };
        let marker = self.marker.as_ref().and_then(|marker| place(marker, path, at));
        if let Some(marker) = marker
            && !is_marker(ground, &marker)
        {
            let why = format!("`{}` is not there", path_text::show(&marker));
            return Proven::NotYet { beside: Some(marker), why };
        }
        self.content(ground, path, at, digest).unwrap_or_else(|error| unreadable(&error))
    }

    fn content(
        &self,
        ground: &Ground,
        path: &Path,
        at: Timestamp,
        digest: Option<&str>,
    ) -> io::Result<Proven> {
        match &self.check {
            Some(Check::Sha256(name)) => return Ok(checksum(name, ground, path, at, digest)),
            Some(Check::LastLine(line)) if last_line(ground, path, line.len())? != line.as_bytes() => {
                return Ok(Proven::No(format!("its last line is not {line:?}")));
            }
            Some(Check::Magic(bytes)) if first_bytes(ground, path, bytes.len())? != bytes.as_bytes() => {
                return Ok(Proven::No(format!("it does not begin with {bytes:?}")));
            }
            Some(Check::LastLine(_) | Check::Magic(_)) | None => {}
        }
        if self.digest && digest.is_none() {
            return Ok(Proven::Unhashed);
        }
        Ok(Proven::Yes { sha256: digest.map(str::to_owned) })
    }
}

pub(crate) fn unreadable(error: &io::Error) -> Proven {
    Proven::NotYet { beside: None, why: format!("it cannot be read: {error}") }
}

fn beside(template: &NameTemplate, path: &Path, at: Timestamp) -> Option<PathBuf> {
    let at = at.to_zoned(TimeZone::system());
    Some(path.parent()?.join(template.expand(path.file_name()?, &at)))
}

fn inside(template: &NameTemplate, path: &Path, at: Timestamp) -> Option<PathBuf> {
    Some(path.join(template.expand(path.file_name()?, &at.to_zoned(TimeZone::system()))))
}

/// A marker that somebody still writes is not there yet.
fn is_marker(ground: &Ground, path: &Path) -> bool {
    let Ok(spot) = ground.spot(path) else { return false };
    matches!(spot.see(), Seen::File(_)) && lease::test(spot.open()) != Writer::Open
}

fn checksum(
    name: &NameTemplate,
    ground: &Ground,
    path: &Path,
    at: Timestamp,
    digest: Option<&str>,
) -> Proven {
    let Some(beside) = beside(name, path, at) else {
        return Proven::No("it has no name".to_owned());
    };
    let not_yet = |why| Proven::NotYet { beside: Some(beside.clone()), why };
    let Some(wanted) = wanted(ground, &beside, path) else {
        return not_yet(format!("`{}` has no SHA-256 for it", path_text::show(&beside)));
    };
    let Some(found) = digest else { return Proven::Unhashed };
    if found == wanted {
        return Proven::Yes { sha256: Some(wanted) };
    }
    if is_older(ground, &beside, path) {
        return not_yet(format!("`{}` is older than it and does not fit", path_text::show(&beside)));
    }
    let beside = path_text::show(beside.file_name().unwrap_or_default());
    Proven::No(format!("its SHA-256 is {found}, `{beside}` says {wanted}"))
}

/// The checksum may be that of the version before.
fn is_older(ground: &Ground, beside: &Path, path: &Path) -> bool {
    matches!((ground.see(beside), ground.see(path)), (Seen::File(one), Seen::File(other)) if one.changed < other.changed)
}

/// The sum that a file like that of `sha256sum` gives for `path`; one without names is for any.
fn wanted(ground: &Ground, beside: &Path, path: &Path) -> Option<String> {
    let mut text = Vec::new();
    ground.open(beside).ok()?.take(MAX_CHECKSUMS).read_to_end(&mut text).ok()?;
    let name = path.file_name()?.as_bytes();
    text.split(|byte| *byte == b'\n').find_map(|line| {
        let (sum, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        let of = rest.trim_ascii();
        let of = of.strip_prefix(b"*").unwrap_or(of);
        let of = of.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let valid = sum.len() == 64 && sum.iter().all(u8::is_ascii_hexdigit);
        let sum = || String::from_utf8_lossy(sum).to_ascii_lowercase();
        (valid && (of.is_empty() || of == name)).then(sum)
    })
}

/// Without its end of line; of a longer line only enough to see that it differs.
fn last_line(ground: &Ground, path: &Path, expected: usize) -> io::Result<Vec<u8>> {
    let mut file = ground.open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length.saturating_sub(expected as u64 + 4)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    while tail.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        tail.pop();
    }
    let start = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(tail.split_off(start))
}

fn first_bytes(ground: &Ground, path: &Path, count: usize) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    ground.open(path)?.take(count as u64).read_to_end(&mut head)?;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn prove(source: &str, files: &[(&str, &str)]) -> Proven {
        let dir = tempfile::tempdir().expect("a folder");
        let mut last = i64::MIN;
        for (name, text) in files {
            // The kernel's clock ticks slowly: each file shall be younger than the one before.
            let path = dir.path().join(name);
            last = loop {
                std::fs::write(&path, text).expect("written");
                if let Seen::File(fact) = crate::probe::see(&path)
                    && fact.changed > last
                {
                    break fact.changed;
                }
            };
        }
        let source: FileSource = toml::from_str(source).expect("a source");
        Proof::compile(&source).expect("sound").prove_at_once(
            &Ground::locate(dir.path()).expect("there"),
            &dir.path().join("a.csv"),
            Timestamp::UNIX_EPOCH,
        )
    }

    #[test]
    fn each_proof() {
        let check = |source: &str, files: &[(&str, &str)], expected: &str| {
            let proven = match prove(source, files) {
                Proven::Yes { sha256 } => {
                    format!("yes {}", &sha256.unwrap_or_default().get(..8).unwrap_or("-"))
                }
                Proven::NotYet { why, .. } => {
                    format!("not yet: {}", why.rsplit_once("` ").map_or("", |why| why.1))
                }
                Proven::No(why) => format!("no: {why}"),
                Proven::Unhashed => "unhashed".to_owned(),
            };
            assert!(proven.starts_with(expected), "{source} {files:?}: {proven}");
        };
        let file = ("a.csv", "x\nEOF\n");
        check("", &[file], "yes -");
        check("done_marker = '{name}.done'", &[file], "not yet: is not there");
        check("done_marker = '{stem}.ok'", &[file, ("a.ok", "")], "yes -");
        check("verify.last_line = 'EOF'", &[file], "yes -");
        check("verify.last_line = 'EOF'", &[("a.csv", "EOF")], "yes -");
        check("verify.last_line = 'EOF'", &[("a.csv", "x\nxEOF\r\n")], "no: its last line");
        check("verify.last_line = 'EOF'", &[("a.csv", "")], "no: its last line");
        check("verify.magic = 'x'", &[file], "yes -");
        check("verify.magic = 'PK'", &[file], "no: it does not begin");
        let sum = "2c9b8fa0a3cb1c8dc3a5b7c1b0ab0b5b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";
        check("verify.sha256 = '{name}.sha256'", &[file], "not yet: has no SHA-256");
        check(
            "verify.sha256 = '{name}.sha256'",
            &[file, ("a.csv.sha256", "2c9b")],
            "not yet: has no SHA-256",
        );
        check("verify.sha256 = '{name}.sha256'", &[file, ("a.csv.sha256", sum)], "no: its SHA-256 is");
        check("verify.sha256 = '{name}.sha256'", &[("a.csv.sha256", sum), file], "not yet: is older");
        let right = hex::encode(Sha256::digest(file.1));
        let listed = format!("{sum}  other.csv\n{right} *in/a.csv\n");
        check("verify.sha256 = 'SUMS'", &[file, ("SUMS", &listed)], &format!("yes {}", &right[..8]));
        check("dedupe.key = ['sha256']", &[file], &format!("yes {}", &right[..8]));
    }
}
