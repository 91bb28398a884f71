//! Conditions. One that is put together here has a value that is known, and judging it must come to that; one that is
//! broken in some way is refused or judged, in bounded time, and twice the same.

use std::time::{Duration, Instant};

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use hetuflow_core::{
    condition::{Condition, Judgement},
    event::{Event, SourceKind},
    id::Namespace,
    matching::{Body, Facts, Wanted},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::mutate;

/// What the cost of a condition allows takes far less.
const WITHIN: Duration = Duration::from_secs(5);
const DEPTH: u32 = 4;
const NAMES: [&str; 6] = ["", "main", "a b", "é", "\"", "\\n"];

const SEEDS: [&str; 12] = [
    "body.ref == \"refs/heads/main\" && !body.deleted",
    "body.commits.exists(c, c.id.matches(\"^[a-f]+$\"))",
    "body.list.all(x, body.list.exists(y, x == y))",
    "headers[\"x-github-event\"] in [\"push\", \"ping\"]",
    "has(body.pull_request.draft) && body.?draft.orValue(false)",
    "timestamp(body.at) > timestamp(event.received_at) - duration(\"1h\")",
    "event.sender.inCidr([\"10.0.0.0/8\", \"2001:db8::/32\"])",
    "size(body.list.filter(x, x % 2 == 0).map(x, x * 2)) > 3",
    "body.name.startsWith(\"a\") ? body.a > 1 : body.b < 2",
    "[1, 2, 3].exists_one(x, x == body.a)",
    "query.env == \"prod\" || body[\"a b\"] != null",
    "double(body.a) / 3.0 > 1.5 && int(\"7\") == 7",
];

/// What conditions here look at: everything is there, and of the kind that it is compared with.
struct World {
    a: i64,
    b: i64,
    name: &'static str,
    list: Vec<i64>,
}

impl World {
    fn of(u: &mut Unstructured<'_>) -> Result<Self> {
        let list = (0..u.int_in_range(0..=6)?).map(|_| small(u)).collect::<Result<_>>()?;
        Ok(Self { a: small(u)?, b: small(u)?, name: u.choose(&NAMES)?, list })
    }

    fn body(&self) -> Value {
        json!({ "a": self.a, "b": self.b, "name": self.name, "list": self.list, "at": "2026-01-01T00:00:00Z",
            "ref": "refs/heads/main", "deleted": false, "commits": [{ "id": "abc" }], "deep": { "er": [self.a] } })
    }

    /// A condition and what it comes to.
    fn condition(&self, u: &mut Unstructured<'_>, depth: u32) -> Result<(String, bool)> {
        if depth == 0 || u.ratio(1, 3)? {
            return self.comparison(u);
        }
        let (left, a) = self.condition(u, depth - 1)?;
        Ok(match u.int_in_range(0..=2)? {
            0 => (format!("!({left})"), !a),
            1 => {
                let (right, b) = self.condition(u, depth - 1)?;
                (format!("({left}) && ({right})"), a && b)
            }
            _ => {
                let (right, b) = self.condition(u, depth - 1)?;
                (format!("({left}) || ({right})"), a || b)
            }
        })
    }

    fn comparison(&self, u: &mut Unstructured<'_>) -> Result<(String, bool)> {
        let n = small(u)?;
        Ok(match u.int_in_range(0..=4)? {
            0 => (format!("body.list.exists(x, x > {n})"), self.list.iter().any(|x| *x > n)),
            1 => (format!("body.list.all(x, x != {n})"), self.list.iter().all(|x| *x != n)),
            2 => {
                let other = *u.choose(&NAMES)?;
                (format!("body.name == {}", Value::from(other)), self.name == other)
            }
            _ => {
                let ((left, a), (right, b)) = (self.number(u)?, self.number(u)?);
                let (op, holds) = *u.choose(&[
                    ("==", a == b),
                    ("!=", a != b),
                    ("<", a < b),
                    ("<=", a <= b),
                    (">", a > b),
                    (">=", a >= b),
                ])?;
                (format!("{left} {op} {right}"), holds)
            }
        })
    }

    fn number(&self, u: &mut Unstructured<'_>) -> Result<(String, i64)> {
        let n = small(u)?;
        let numbers = [
            ("body.a".to_owned(), self.a),
            ("body[\"b\"]".to_owned(), self.b),
            ("body.deep.er[0]".to_owned(), self.a),
            ("size(body.list)".to_owned(), i64::try_from(self.list.len()).unwrap_or(0)),
            (format!("({n})"), n),
        ];
        u.choose(&numbers).cloned()
    }
}

fn small(u: &mut Unstructured<'_>) -> Result<i64> {
    u.int_in_range(-5..=5)
}

pub(super) fn attempt(u: &mut Unstructured<'_>) -> Result<()> {
    let world = World::of(u)?;
    let body = world.body().to_string();
    if u.ratio(1, 2)? {
        let seed = *u.choose(&SEEDS)?;
        broken(&mutate::text(u, seed)?, &body);
        return Ok(());
    }
    let (text, holds) = world.condition(u, DEPTH)?;
    let condition = match Condition::compile(&text) {
        Ok(condition) => condition,
        Err(error) => panic!("{text}: {error}"),
    };
    let found = judge(&condition, &body);
    let agrees = match &found {
        Judgement::Yes => holds,
        Judgement::No(_) => !holds,
        Judgement::TooCostly(_) | Judgement::Error(_) => false,
    };
    assert!(agrees, "{text} over {body}: {found:?}, and it should be {holds}");
    Ok(())
}

fn broken(text: &str, body: &str) {
    let Ok(condition) = Condition::compile(text) else { return };
    let begun = Instant::now();
    let first = judge(&condition, body);
    assert_eq!(first, judge(&condition, body), "{text}: it comes to something else the second time");
    assert!(begun.elapsed() < WITHIN, "{text}: it takes {:?}", begun.elapsed());
}

/// Over all of the body, and over what the condition says that it looks at: that must make no difference.
fn judge(condition: &Condition, body: &str) -> Judgement {
    let event = event(body);
    let over = |wanted: &Wanted| {
        let parsed =
            Body::parse_for(wanted, Some("application/json"), body.as_bytes()).unwrap_or(Body::Empty);
        condition.judge(&Facts { event: &event, body: &parsed, file: None }).judgement
    };
    let whole = over(&Wanted::whole());
    let partly = over(condition.wants("body").unwrap_or(&Wanted::default()));
    let kind = |judgement: &Judgement| std::mem::discriminant(judgement);
    let text = condition.source();
    assert_eq!(kind(&whole), kind(&partly), "{text}: {whole:?} over all, {partly:?} over a part");
    whole
}

fn event(body: &str) -> Event {
    let now = Timestamp::UNIX_EPOCH;
    Event {
        content_type: Some("application/json".to_owned()),
        headers: vec![("x-github-event".to_owned(), "push".to_owned())],
        query: Some("env=prod".to_owned()),
        sender: "10.1.2.3".parse().ok(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Event::new(SourceKind::Webhook, Namespace::default(), "/hooks/a", "push", now)
    }
}
