mod loops;

use serde_json::{Value as Json, json};

use super::*;
use crate::matching::{Body, tests::event};

fn judge_body(source: &str, body: &Body) -> Judgement {
    let file = crate::matching::tests::file();
    let condition = Condition::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
    condition.judge(&Facts { event: &event(), body, file: Some(&file) }).judgement
}

fn judge(source: &str, body: &Json) -> Judgement {
    judge_body(source, &Body::Json(body.clone()))
}

fn push() -> Json {
    json!({
        "ref": "refs/heads/main", "deleted": false, "size": 3, "ratio": 0.5, "big": u64::MAX,
        "head_commit": null, "repository": {"name": "site", "owner": {"login": "octo"}},
        "commits": [
            {"id": "a", "modified": ["docs/a.md", "src/b.rs"]},
            {"id": "b", "modified": [], "draft": true},
        ],
    })
}

#[test]
fn what_holds() {
    for source in [
        "true",
        "body.ref == \"refs/heads/main\" && !body.deleted",
        "body.ref in [\"refs/heads/main\", \"refs/heads/dev\"]",
        "body.size == 3 && body.size > 2 && body.size < 3.5 && body.ratio == 0.5",
        "body.big > 5u",
        "body.head_commit == null",
        "has(body.repository.owner.login) && !has(body.repository.fork)",
        "body[\"repository\"][\"owner\"].login == \"octo\"",
        "body.commits[1].id == \"b\"",
        "body.commits.exists(c, c.modified.exists(f, f.startsWith(\"docs/\")))",
        "body.commits.all(c, c.id.matches(\"^[a-z]$\"))",
        "body.commits.map(c, c.id) == [\"a\", \"b\"]",
        "size(body.commits.filter(c, has(c.draft) && c.draft)) == 1",
        "body.?draft.orValue(false) == false",
        "body.repository.exists(name, name == \"owner\")",
        "headers[\"x-github-event\"] == \"push\" && headers[\"accept\"] == \"a, b\"",
        "query.env == \"prod\" && query.name == \"a b\"",
        "event.type == \"push\" && event.subject == \"octo/site\" && event.source.startsWith(\"/hooks/\")",
        "timestamp(event.time) < timestamp(\"2020-01-01T00:00:00Z\")",
        "file.size == 12 && file.path.endsWith(\".csv\")",
        "(body.size == 3 || body.nothing) && type(body.ref) == string",
        "body.commits.exists(body, body.id == \"b\")",
    ] {
        assert_eq!(judge(source, &push()), Judgement::Yes, "{source}");
    }
}

#[test]
fn what_does_not_hold_says_which_clause_and_why() {
    let check = |source: &str, expected: &str| {
        assert_eq!(judge(source, &push()), Judgement::No(expected.to_owned()), "{source}");
    };
    check(
        "body.size == 3 && body.ref == \"refs/heads/dev\"",
        "body.ref == \"refs/heads/dev\" is false: body.ref is \"refs/heads/main\"",
    );
    check("(body.size == 3 && (body.size > 5))", "body.size > 5 is false: body.size is 3");
    check("body.missing && false", "false is false");
    check(
        "body.missing == 1 && body.size == 3",
        "body.missing == 1 does not hold: body has no field \"missing\"",
    );
    check(
        "body.head_commit.message == \"x\"",
        "body.head_commit.message == \"x\" does not hold: body.head_commit is null, it has no field \"message\"",
    );
    check(
        "body.ref.name == \"x\"",
        "body.ref.name == \"x\" does not hold: body.ref is a text, it has no field \"name\"",
    );
    check(
        "body.commits[7].id == \"x\"",
        "body.commits[7].id == \"x\" does not hold: body.commits has no element 7: it has 2",
    );
    check(
        "body.commits.all(c, c.draft)",
        "body.commits.all(c, c.draft) does not hold: there is no field \"draft\"",
    );
    check("size(body.commits) > 2", "size(body.commits) > 2 is false: body.commits is a list of 2");
    check("headers.nope == \"x\"", "headers.nope == \"x\" does not hold: headers has no field \"nope\"");
}

#[test]
fn times_are_compared_and_counted() {
    let body = json!({
        "started": "2026-03-29T00:59:00Z", "finished": "2026-03-29T03:10:00+02:00", "epoch": 1_774_746_000, "bad": "soon",
    });
    for source in [
        "timestamp(body.started) < timestamp(body.finished)",
        "timestamp(body.finished) - timestamp(body.started) == duration(\"11m\")",
        "timestamp(body.finished) - timestamp(body.started) > duration(\"90s\") + duration(\"9m\")",
        "timestamp(body.started) + duration(\"1h\") > timestamp(body.finished)",
        "timestamp(body.started).getHours(\"Europe/Berlin\") == 1",
        "timestamp(body.finished).getHours(\"Europe/Berlin\") == 3",
        "timestamp(body.started).getDayOfWeek() == 0",
        "timestamp(body.epoch) == timestamp(\"2026-03-29T01:00:00Z\")",
        "timestamp(event.received_at) - timestamp(event.time) < duration(\"5m\")",
        "event.replay_of == null",
    ] {
        assert_eq!(judge(source, &body), Judgement::Yes, "{source}");
    }
    assert!(matches!(judge("timestamp(body.bad) > timestamp(event.time)", &body), Judgement::Error(_)));
    assert!(matches!(judge("timestamp(body.missing) > timestamp(event.time)", &body), Judgement::No(_)));
}

#[test]
fn addresses_are_looked_up_in_networks() {
    let body = json!({"ip": "10.1.2.3", "six": "2001:db8::7", "port": "10.1.2.3:80", "n": 7, "peers": ["10.9.9.9", "192.0.2.1"]});
    let check = |source: &str, expected: bool| {
        assert_eq!(judge(source, &body) == Judgement::Yes, expected, "{source}: {:?}", judge(source, &body));
    };
    check("body.ip.inCidr(\"10.0.0.0/8\")", true);
    check("body.ip.inCidr([\"192.0.2.0/24\", \"10.0.0.0/8\"])", true);
    check("body.ip.inCidr([\"192.0.2.0/24\"])", false);
    check("body.six.inCidr(\"2001:db8::/32\")", true);
    check("body.port.inCidr(\"10.0.0.0/8\")", false);
    check("body.peers.exists(p, p.inCidr(\"192.0.2.0/24\"))", true);
    check("!body.peers.all(p, p.inCidr(\"192.0.2.0/24\"))", true);
    assert!(matches!(judge("body.n.inCidr(\"10.0.0.0/8\")", &body), Judgement::Error(_)));
}

#[test]
fn two_fields_are_compared() {
    let body = json!({"before": "a", "after": "b", "n": 3, "max": 3.0, "tags": ["x"], "tag": "x"});
    for source in [
        "body.before != body.after",
        "body.n <= body.max",
        "body.tag in body.tags",
        "size(body.tags) < body.n",
    ] {
        assert_eq!(judge(source, &body), Judgement::Yes, "{source}");
    }
}

/// The clauses of a condition over [`push`], each as one line.
fn told(source: &str) -> Vec<String> {
    let condition = Condition::compile(source).expect("a condition");
    let (event, body) = (event(), Body::Json(push()));
    let finding = condition.judge(&Facts { event: &event, body: &body, file: None });
    let line = |clause: event::Clause| {
        let found: Vec<String> = clause.found.iter().map(|(path, value)| format!("{path}={value}")).collect();
        let (wanted, problem) = (clause.wanted.unwrap_or_default(), clause.problem.unwrap_or_default());
        format!("{} {} [{}] {wanted} {problem}", clause.held, clause.text, found.join(" "))
            .trim_end()
            .to_owned()
    };
    finding.clauses.into_iter().map(line).collect()
}

#[test]
fn each_clause_is_told_with_what_was_there_and_what_was_wanted() {
    assert_eq!(
        told("body.ref == \"refs/heads/dev\" && !body.deleted && (body.size > 2 && 5 < body.size)"),
        [
            r#"false body.ref == "refs/heads/dev" [body.ref="refs/heads/main"] == "refs/heads/dev""#,
            "true !body.deleted [body.deleted=false]",
            "true body.size > 2 [body.size=3]",
            "false 5 < body.size [body.size=3] > 5",
        ]
    );
    assert_eq!(
        told(
            "body.ref in [\"a\", \"b\"] && body.deleted && body.size == body.ratio && body.ref.startsWith(\"x\")"
        ),
        [
            r#"false body.ref in ["a", "b"] [body.ref="refs/heads/main"] in ["a", "b"]"#,
            "false body.deleted [body.deleted=false] true",
            "false body.size == body.ratio [body.ratio=0.5 body.size=3] == 0.5 (body.ratio)",
            r#"false body.ref.startsWith("x") [body.ref="refs/heads/main"]"#,
        ]
    );
    assert_eq!(
        told("body.fork == true && body.ref > 1 && body.commits.exists(c, c.id == \"z\")"),
        [
            "false body.fork == true [] == true body has no field \"fork\"",
            "false body.ref > 1 [body.ref=\"refs/heads/main\"] > 1 > cannot be used on a text and an integer; int(), double() and string() convert",
            "false body.commits.exists(c, c.id == \"z\") [body.commits=a list of 2]",
        ]
    );
}

#[test]
fn what_is_kept_of_clauses_is_bounded() {
    let long = format!("body.ref != \"{}\"", "x".repeat(1000));
    let clause = told(&long).remove(0);
    assert!(clause.len() < 300, "{clause}");
    let many = ["body.size == 3"; 100].join(" && ") + " && body.size == 4";
    let clauses = told(&many);
    assert_eq!(clauses.len(), MAX_CLAUSES);
    assert!(clauses[0].starts_with("false body.size == 4"), "the one that failed is kept: {clauses:?}");
}

#[test]
fn other_bodies() {
    let yes = |source: &str, body: &Body| assert_eq!(judge_body(source, body), Judgement::Yes, "{source}");
    yes("body == \"hello\" && body.contains(\"ell\")", &Body::Text("hello".to_owned()));
    yes("body == null", &Body::Bytes);
    yes("body == null", &Body::Empty);
    yes("body.a == \"1\"", &Body::Form(json!({"a": "1"})));
    let Judgement::No(reason) = judge_body("body.a == 1", &Body::Empty) else {
        panic!("an empty body has no field")
    };
    assert_eq!(reason, "body.a == 1 does not hold: body is null, it has no field \"a\"");
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    for source in [
        "body.ref > 1",
        "body.ref",
        "body.size + \"x\" == \"3x\"",
        "body.size / 0 == 1",
        "int(body.ref) == 1",
    ] {
        assert!(
            matches!(judge(source, &push()), Judgement::Error(_)),
            "{source}: {:?}",
            judge(source, &push())
        );
    }
    let Judgement::Error(message) = judge("9223372036854775807 + body.size == 1", &push()) else {
        panic!("an overflow is an error")
    };
    assert!(message.len() < 400, "{message}");
}

#[test]
fn what_does_not_compile_says_where() {
    let check = |source: &str, message: &str, offset: Option<usize>| {
        let error = Condition::compile(source).expect_err(source);
        assert_eq!((error.message.as_str(), error.offset), (message, offset), "{source}");
    };
    check("body.ref ==", "mismatched input 'the end'", Some(11));
    check("body.ref = 1", "token recognition error at: '= '", Some(9));
    check(
        "boddy.ref == 1",
        "nothing is called \"boddy\" here: did you mean \"body\"? Allowed: body, headers, query, event, file",
        Some(0),
    );
    check(
        "\"ä\" == ev.type",
        "nothing is called \"ev\" here: allowed: body, headers, query, event, file",
        Some(8),
    );
    check("\"ä\" == body.x = 1", "token recognition error at: '= '", Some(15));
    check("\"ä\n\" ==", "token recognition error at: '\"ä\n'", Some(0));
    check(
        "body.x.startswith(\"a\")",
        "there is no function \"startswith\"; did you mean \"startsWith\"?",
        Some(17),
    );
    check("body.x.matches(body.y)", "the pattern of matches() must be a quoted text", Some(14));
    check("body.x.matches(\"(a\")", "\"(a\" is no pattern: unclosed group", Some(14));
    check(
        "body.x.matches(\"\\\\w{99}\")",
        "the pattern \"\\\\w{99}\" is too large: repeat less, or use [a-z0-9_] instead of \\w",
        Some(14),
    );
    check(
        "body.commits.any(c, c.id == \"a\")",
        "there is no function \"any\"; did you mean \"exists\"?",
        Some(16),
    );
    check(
        "body.ip.inCidr(body.net)",
        "inCidr() takes a quoted network, or a list of them: \"10.0.0.0/8\"",
        Some(14),
    );
    check(
        "body.ip.inCidr([])",
        "inCidr() takes a quoted network, or a list of them: \"10.0.0.0/8\"",
        Some(14),
    );
    check(
        "body.ip.inCidr(\"10.0.0.1/8\")",
        "\"10.0.0.1/8\" is no network: it starts at 10.0.0.0: write \"10.0.0.0/8\"",
        Some(14),
    );
    check("T{a: 1} == 1", "there is no type \"T\"", Some(1));
    check("body.a.all(x, x.all(y, y.all(z, z)))", "loops may be nested 2 deep, not more", Some(28));
    let long = format!("body.a == \"{}\"", "x".repeat(4096));
    check(&long, "a condition has at most 4096 bytes, this one has 4108", None);
}

#[test]
fn two_loops_may_follow_each_other() {
    assert_eq!(
        judge(
            "body.commits.filter(c, c.id == \"a\").map(c, c.modified).all(l, l.all(f, f != \"\"))",
            &push()
        ),
        Judgement::Yes
    );
}

fn numbers(count: usize) -> Json {
    (0..count).collect()
}

#[test]
fn what_would_walk_too_far_is_not_started() {
    let check = |source: &str, body: &Json, costly: bool| {
        let judgement = judge(source, body);
        assert_eq!(matches!(judgement, Judgement::TooCostly(_)), costly, "{source}: {judgement:?}");
    };
    let squares = "body.a.all(x, body.a.all(y, x + y >= 0))";
    check(squares, &json!({"a": numbers(300)}), false);
    check(squares, &json!({"a": numbers(1000)}), true);
    check("body.a.all(x, x in body.a)", &json!({"a": numbers(1000)}), true);
    check("body.a.all(x, x >= 0)", &json!({"a": numbers(50_000)}), false);
    check("body.a.map(x, x).all(x, body.a.filter(y, true).all(y, true))", &json!({"a": numbers(1000)}), true);
    check("(body.a + body.a + body.a).all(x, true)", &json!({"a": numbers(50_000)}), true);
    check(
        "body.a.all(x, body.t.contains(\"y\"))",
        &json!({"a": numbers(5000), "t": "x".repeat(1_000_000)}),
        true,
    );
    check("!body.t.contains(\"y\")", &json!({"t": "x".repeat(1_000_000)}), false);
    check("body.a.all(x, x.matches(\"^\\\\w+$\"))", &json!({"a": vec!["a"; 5000]}), false);
    check("matches(body.t, \"^(a|b)*$\")", &json!({"t": "a".repeat(1_000_000)}), false);
    check(
        "body.a.all(x, matches(body.t, \"b$\"))",
        &json!({"a": numbers(50), "t": "a".repeat(1_000_000)}),
        true,
    );
    // Copies: of one list in every round, and of each element once.
    check("body.a.map(x, body.a).size() > 0", &json!({"a": numbers(1000)}), true);
    check("body.a.map(x, {\"k\": body.a}).size() > 0", &json!({"a": numbers(1000)}), true);
    check("[body.a, body.a].size() > 0", &json!({"a": numbers(60_000)}), true);
    let objects = json!({"a": vec![json!({"id": [1, 2, 3], "on": true}); 5000]});
    check("body.a.filter(x, x.on).all(x, x.id.all(y, y > 0))", &objects, false);
    check("body.a.map(x, x.id).size() == 5000", &objects, false);
    // What is not looked at makes nothing dearer.
    check("body.a.all(x, x == \"a\")", &json!({"a": vec!["a"; 5000], "patch": "x".repeat(1_000_000)}), false);
    check("body.a == body.b", &json!({"a": numbers(99_000), "b": numbers(99_000)}), true);
    // Many files in one of many commits: what is walked counts, not the product of the longest.
    let mut commits = vec![json!({"modified": ["a"]}); 2000];
    commits.push(json!({"modified": vec!["x"; 3000]}));
    check("!body.commits.exists(c, c.modified.exists(f, f == \"z\"))", &json!({"commits": commits}), false);
}

#[test]
fn only_what_is_looked_at_counts() {
    let body = json!({"ref": "main", "rest": (0..200_000).collect::<Json>()});
    assert_eq!(judge("body.ref == \"main\"", &body), Judgement::Yes);
    assert!(matches!(judge("body == body", &body), Judgement::TooCostly(_)));
}

#[test]
fn the_longest_source_neither_overflows_nor_hangs() {
    let check = |source: String| {
        if let Ok(condition) = Condition::compile(&source) {
            let body = Body::Json(push());
            let _ = condition.judge(&Facts { event: &event(), body: &body, file: None });
        }
    };
    check("1+".repeat(2000) + "1 == 1");
    check("!".repeat(4000) + "true");
    check("(".repeat(2000) + &")".repeat(2000));
    check("[".repeat(2000) + &"]".repeat(2000));
    check("true && ".repeat(500) + "true");
    check("true || ".repeat(500) + "true");
    check("true ? ".repeat(500) + "true");
    check("body".to_owned() + &".a".repeat(2000));
    check("body".to_owned() + &"[0]".repeat(1300));
    check("-".repeat(4000));
    check("a.".repeat(2000));
}

#[test]
fn clauses_judge_as_the_whole_does() {
    // The same condition, cut at `&&` and not cut.
    let parts = ["true", "false", "body.size == 3", "body.missing", "body.ref"];
    for (a, b) in parts.iter().flat_map(|a| parts.iter().map(move |b| (a, b))) {
        let cut = judge(&format!("{a} && {b}"), &push());
        let whole = judge(&format!("({a} && {b}) == true"), &push());
        let kind = |judgement: &Judgement| match judgement {
            Judgement::Yes => 1,
            Judgement::No(_) | Judgement::Error(_) => 0,
            Judgement::TooCostly(_) => 2,
        };
        assert_eq!(kind(&cut), kind(&whole), "{a} && {b}: {cut:?} {whole:?}");
    }
}
