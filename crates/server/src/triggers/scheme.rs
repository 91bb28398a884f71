//! What a trigger file may say about signature schemes, and the scheme files that lie beside trigger files.

use std::{collections::BTreeSet, path::Path};

use hetuflow_core::trigger::{Known, SecretRef};
use hetuflow_signature::Scheme;
use serde_json::{Map, Value};

use super::beside;

/// Below the folder of trigger files.
pub(super) const FOLDER: &str = "schemes";

/// The schemes that are built in, and those that a file brings along.
#[derive(Debug, Clone, Copy, Default)]
pub struct KnownSchemes;

impl Known for KnownSchemes {
    fn check_scheme(
        &self,
        scheme: &str,
        options: &Map<String, Value>,
        secrets: &[SecretRef],
    ) -> Result<(), String> {
        let known = Scheme::named(scheme, options).map_err(|error| error.to_string())?;
        if secrets.is_empty() && !known.finds_keys() {
            return Err(format!("scheme {scheme:?} needs a secret: secret = {{ env = \"NAME\" }}"));
        }
        if secrets.iter().any(|secret| matches!(secret, SecretRef::Url(_))) && !known.has_public_keys() {
            return Err(format!(
                "scheme {scheme:?} signs with a secret that only you and the sender know: it is not published at a url"
            ));
        }
        Ok(())
    }
}

/// The text of a trigger file with the scheme files that it needs: those that it names, that are not built in, and
/// that lie in `schemes/` beside it. Blocking.
pub(super) fn with_schemes(text: &str, folder: &Path) -> Result<String, String> {
    // What is not TOML is told by the reader of trigger files.
    let Ok(file) = text.parse::<toml::Table>() else { return Ok(text.to_owned()) };
    let brought = file.get("schemes").and_then(toml::Value::as_table);
    let mut found = toml::Table::new();
    for name in names(&file) {
        let here = brought.is_some_and(|schemes| schemes.contains_key(name));
        if here || Scheme::names().contains(&name) {
            continue;
        }
        if let Some(text) = beside::read(&folder.join(FOLDER), name)? {
            // Without its vectors, which only `hetuflow signature test` reads.
            let rule = text.find("\n[[vector]]").map_or(text.as_str(), |at| &text[..=at]);
            found.insert(name.to_owned(), rule.into());
        }
    }
    match (found.is_empty(), brought) {
        (true, _) => Ok(text.to_owned()),
        (false, None) => Ok(format!("{text}\n[schemes]\n{found}")),
        (false, Some(_)) => Err(format!(
            "it has [schemes] of its own, and others lie in {FOLDER}/: keep all of them in one of the two places"
        )),
    }
}

/// The schemes that the webhooks of a file name.
fn names(file: &toml::Table) -> BTreeSet<&str> {
    let list = file.get("trigger").and_then(toml::Value::as_array).into_iter().flatten();
    let triggers = list.filter_map(toml::Value::as_table).chain([file]);
    let on = triggers.filter_map(|trigger| trigger.get("on")?.get("webhook"));
    let webhooks = on.flat_map(|webhook| match webhook.as_array() {
        Some(list) => list.iter().collect(),
        None => vec![webhook],
    });
    webhooks.filter_map(|webhook| webhook.get("scheme")?.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_takes_along_what_it_needs() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join(FOLDER)).expect("a folder");
        let acme = "about = \"Acme\"\n\n[[vector]]\nid = \"acme/1\"\n";
        fs::write(folder.path().join(FOLDER).join("acme.toml"), acme).expect("written");
        fs::write(folder.path().join(FOLDER).join("github.toml"), "about = 7").expect("written");
        let with = |text: &str| with_schemes(text, folder.path());
        let text = "[[on.webhook]]\nscheme = \"acme\"\n[[on.webhook]]\nscheme = \"github\"\n";
        assert_eq!(with(text), Ok(format!("{text}\n[schemes]\nacme = \"\"\"\nabout = \"Acme\"\n\n\"\"\"\n")));
        for same in [
            "[on.webhook]\nscheme = \"nobody\"\n",
            "[on.webhook]\nscheme = \"../acme\"\n",
            "[on.webhook]\nscheme = \"github\"\n",
            "[on.webhook]\nscheme = \"acme\"\n[schemes]\nacme = \"about = 'mine'\"\n",
            "not TOML",
        ] {
            assert_eq!(with(same).as_deref(), Ok(same));
        }
        let both = "[on.webhook]\nscheme = \"acme\"\n[schemes]\nother = \"\"\n";
        assert!(with(both).is_err_and(|why| why.contains("[schemes] of its own")));
        let list = "[[trigger]]\nname = \"a\"\n[trigger.on.webhook]\nscheme = \"acme\"\n";
        assert!(with(list).is_ok_and(|text| text.contains("[schemes]\nacme = ")));
    }
}
