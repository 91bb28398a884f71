//! `[on.webhook]`: who may send, and what of it counts.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::{Map, Value};
use toml::{
    Spanned,
    de::{DeArray, DeValue},
};

use super::{
    HookResponse, Known, SecretRef, SenderSees, WebhookSource, check,
    reader::{Table, one_or_many},
    source::read_when,
    text::Text,
};
use crate::{id::TriggerName, network::Network};

const DEFAULT_MAX_BODY: u64 = 1024 * 1024;
const MAX_BODY: u64 = 25 * 1024 * 1024;

const PLAIN: &str = "text/plain; charset=utf-8";

const SECRET_HELP: &str = "name where it is kept: secret = { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }; public keys \
     also { url = \"https://..\" }";

/// Of an address of public keys.
const MAX_URL: usize = 2048;

pub(super) fn read_webhook(
    mut table: Table<'_>,
    name: Option<&TriggerName>,
    known: &dyn Known,
) -> Option<WebhookSource> {
    let scheme = table.required("scheme", "how deliveries are signed: scheme = \"github\"");
    let secrets = read_secrets(&mut table);
    let options = read_options(&mut table);
    // A secret that is wrong in itself has a problem of its own; it must not hide one of the scheme.
    let some = [SecretRef::Env(String::new())];
    let kept = secrets.as_deref().unwrap_or(&some);
    if let (Some(scheme), Some(options)) = (&scheme, &options)
        && let Err(reason) = known.check_scheme(&scheme.value, options, kept)
    {
        table.problem(scheme.span.clone(), reason, "");
    }
    let path = read_path(&mut table);
    let events = table.texts("events").unwrap_or_default().into_iter().map(|text| text.value).collect();
    let when = read_when(&mut table);
    let max_body = table.size("max_body", 1..=MAX_BODY).unwrap_or(DEFAULT_MAX_BODY);
    let sees =
        [("output", SenderSees::Output), ("status", SenderSees::Status), ("nothing", SenderSees::Nothing)];
    let sender_sees = table.choice("sender_sees", &sees).unwrap_or(SenderSees::Output);
    let allow_from = read_networks(&mut table);
    let observe_until = read_observe_until(&mut table);
    let response = read_response(&mut table);
    table.finish();
    let path = path.or_else(|| name.map(|name| name.as_str().to_owned()))?;
    Some(WebhookSource {
        path,
        scheme: scheme?.value,
        options: options?,
        secrets: secrets?,
        events,
        when,
        max_body,
        sender_sees,
        allow_from,
        observe_until,
        response,
    })
}

fn read_networks(table: &mut Table<'_>) -> Vec<Network> {
    const EMPTY: &str = "leave it out to take deliveries from anywhere";
    if table.is_empty_list("allow_from") {
        table.problem_at("allow_from", "allow_from lets nobody in", EMPTY);
    }
    let texts = table.texts("allow_from").unwrap_or_default();
    let mut networks = Vec::new();
    for text in texts {
        match Network::parse(&text.value) {
            Ok(network) => networks.push(network),
            Err(why) => table.problem(text.span, why, ""),
        }
    }
    networks
}

/// A day is observed to its end, UTC.
fn read_observe_until(table: &mut Table<'_>) -> Option<Timestamp> {
    let text = table.time_text("observe_until")?;
    let day = || {
        let day = (text.value.len() == 10).then(|| text.value.parse::<Date>().ok()).flatten();
        let next = day?.tomorrow().ok()?;
        next.to_zoned(TimeZone::UTC).ok().map(|midnight| midnight.timestamp())
    };
    let until = text.value.parse::<Timestamp>().ok().or_else(day);
    if until.is_none() {
        let help = "the last day, \"2026-12-31\" (UTC), or a time with its offset";
        table.problem(text.span, format!("observe_until cannot be {:?}", text.value), help);
    }
    until
}

fn read_response(source: &mut Table<'_>) -> Option<HookResponse> {
    let mut table = source.table("response")?;
    let status = table.integer("status", 200..=299).and_then(|status| status.try_into().ok());
    let content_type = table.text("content_type");
    let printable = |text: &Text| text.value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if let Some(text) = content_type.as_ref().filter(|text| text.value.is_empty() || !printable(text)) {
        let help = "such as \"application/json\"";
        table.problem(text.span.clone(), format!("content_type cannot be {:?}", text.value), help);
    }
    let body = table.text("body");
    let template = body.as_ref().and_then(|text| Some((text, check::template(&table, text)?)));
    if let Some((text, template)) = template
        && template.roots().any(|root| root == "file")
    {
        let help = "body, headers, query and event are there";
        table.problem(text.span.clone(), "file is only there for [on.file]", help);
    }
    table.finish();
    Some(HookResponse {
        status: status.unwrap_or(200),
        content_type: content_type.map_or_else(|| PLAIN.to_owned(), |text| text.value),
        body: body.map(|text| text.value).unwrap_or_default(),
    })
}

fn read_path(table: &mut Table<'_>) -> Option<String> {
    let text = table.text("path")?;
    let path = TriggerName::new(text.value.as_str()).ok();
    if path.is_none() {
        let help = "one segment of the address /hooks/..: 1 to 64 of a-z A-Z 0-9 . _ -, \
                        starting with a letter or digit";
        table.problem(text.span, format!("path cannot be {:?}", text.value), help);
    }
    path.map(String::from)
}

/// `None` after a problem was noted; no secret at all is for the scheme to judge.
fn read_secrets(table: &mut Table<'_>) -> Option<Vec<SecretRef>> {
    let Some(value) = table.take("secret") else { return Some(Vec::new()) };
    let list = one_or_many(value);
    if list.is_empty() {
        table.problem(value.span(), "secret is an empty list", SECRET_HELP);
        return None;
    }
    list.into_iter().map(|value| read_secret(table, value)).collect::<Vec<_>>().into_iter().collect()
}

fn read_secret<'d>(table: &Table<'d>, value: &'d Spanned<DeValue<'d>>) -> Option<SecretRef> {
    if value.get_ref().is_str() {
        table.problem(value.span(), "a secret itself does not belong into a trigger file", SECRET_HELP);
        return None;
    }
    let mut secret = table.as_table(value, "secret")?;
    let env = secret.text("env").filter(|text| check::variable(&secret, text));
    let file = secret.text("file").filter(|text| not_empty(&secret, text, "file"));
    let credential = secret.text("credential").filter(|text| credential_name(&secret, text));
    let url = secret.text("url").filter(|text| https(&secret, text));
    let keys = secret.entries().count();
    let mut found = [
        env.map(|text| SecretRef::Env(text.value)),
        file.map(|text| SecretRef::File(text.value)),
        credential.map(|text| SecretRef::Credential(text.value)),
        url.map(|text| SecretRef::Url(text.value)),
    ]
    .into_iter()
    .flatten();
    let (first, span) = (found.next(), secret.span.clone());
    secret.finish();
    if keys != 1 {
        table.problem(span, "a secret is kept in exactly one place", SECRET_HELP);
        return None;
    }
    first
}

fn not_empty(table: &Table<'_>, text: &Text, key: &str) -> bool {
    let empty = text.value.trim().is_empty();
    if empty {
        table.problem(text.span.clone(), format!("{key} is empty"), SECRET_HELP);
    }
    !empty
}

/// Without a user name: that would be a secret.
fn https(table: &Table<'_>, text: &Text) -> bool {
    let rest = text.value.strip_prefix("https://").unwrap_or_default();
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let plain = text.value.len() <= MAX_URL && text.value.bytes().all(|byte| byte.is_ascii_graphic());
    let good = plain && !host.is_empty() && !host.contains('@') && !rest.contains('#');
    if !good {
        let help = "where public keys are published, such as \"https://example.com/jwks.json\"";
        table.problem(text.span.clone(), format!("url cannot be {:?}", text.value), help);
    }
    good
}

fn credential_name(table: &Table<'_>, text: &Text) -> bool {
    let simple = !text.value.contains('/') && text.value != ".." && text.value != ".";
    if !simple {
        table.problem(
            text.span.clone(),
            "credential is a name, not a path",
            "as in LoadCredential= of the unit",
        );
    }
    simple && not_empty(table, text, "credential")
}

/// What the scheme makes of them is checked by the scheme.
fn read_options(table: &mut Table<'_>) -> Option<Map<String, Value>> {
    let Some(options) = table.take("options") else { return Some(Map::new()) };
    let options = table.as_table(options, "options")?;
    let mut map = Map::new();
    for (key, value) in options.entries() {
        map.insert(key.value, to_json(value.get_ref()));
    }
    Some(map)
}

fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(Value::Null, Value::from)
        }
        DeValue::Float(float) => float.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(boolean) => Value::Bool(*boolean),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(list) => list_to_json(list),
        DeValue::Table(table) => Value::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect(),
        ),
    }
}

fn list_to_json(list: &DeArray<'_>) -> Value {
    list.iter().map(|value| to_json(value.get_ref())).collect()
}
