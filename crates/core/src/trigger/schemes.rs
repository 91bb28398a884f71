//! `[schemes]`: signature schemes that a trigger file brings along, each the text of a scheme file. What is in
//! such a text is for the signature crate to judge; here it becomes an option of the webhooks that name the scheme.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Known, SecretRef, WebhookSource, reader::Table};

/// The option that carries the text.
const DEFINITION: &str = "definition";

pub(super) struct WithSchemes<'k> {
    pub(super) known: &'k dyn Known,
    texts: BTreeMap<String, String>,
}

impl<'k> WithSchemes<'k> {
    pub(super) fn read(known: &'k dyn Known, file: &mut Table<'_>) -> Self {
        let mut texts = BTreeMap::new();
        if let Some(table) = file.table("schemes") {
            for (name, value) in table.entries() {
                if let Some(text) = value.get_ref().as_str() {
                    texts.insert(name.value, text.to_owned());
                } else {
                    table.wrong_type(
                        value,
                        &name.value,
                        "a text",
                        "the text of a scheme file: docs/signatures.md",
                    );
                }
            }
        }
        Self { known, texts }
    }

    pub(super) fn define(&self, webhook: &mut WebhookSource) {
        if let Some(text) = self.texts.get(&webhook.scheme) {
            webhook.options.insert(DEFINITION.to_owned(), Value::from(text.as_str()));
        }
    }
}

impl Known for WithSchemes<'_> {
    fn check_scheme(
        &self,
        scheme: &str,
        options: &Map<String, Value>,
        secrets: &[SecretRef],
    ) -> Result<(), String> {
        let Some(text) = self.texts.get(scheme) else {
            return self.known.check_scheme(scheme, options, secrets);
        };
        let mut options = options.clone();
        options.insert(DEFINITION.to_owned(), Value::from(text.as_str()));
        self.known.check_scheme(scheme, &options, secrets)
    }
}
