use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::matching::{
    Body,
    tests::{event, file},
};

fn render(source: &str) -> Result<String, String> {
    let body = Body::Json(json!({
        "ref": "refs/heads/main", "n": 7, "f": 1.5, "yes": true, "nothing": null, "list": ["a", "b"], "html": "<a & 'b'>",
        "head": {"sha": "abc", "files": [{"name": "x"}]}, "odd key": 1, "evil": "$(id) `id` {{ body.n }}\n-rf", "nul": "a\0b",
    }));
    let (event, file) = (event(), file());
    let template = Template::compile(source).map_err(|errors| errors[0].to_string())?;
    template
        .render(&Facts { event: &event, body: &body, file: Some(&file) })
        .map_err(|error| error.to_string())
}

#[test]
fn values() {
    let check =
        |source: &str, expected: &str| assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    check("no template }} {# here", "no template }} {# here");
    check("{{ body.ref }}", "refs/heads/main");
    check("a{{body.n}}b{{ body.f }}c{{ body.yes }}d{{ body.nothing }}", "a7b1.5ctruednull");
    check("{{ body.list }} {{ body.head }}", r#"["a","b"] {"files":[{"name":"x"}],"sha":"abc"}"#);
    check("{{ body.list[1] }}{{ body.head.files[0].name }}{{ body.list.0 }}", "bxa");
    check("{{ body[\"odd key\"] }}{{ body['head'].sha }}", "1abc");
    check("{{ headers.x-github-event }} {{ headers[\"accept\"] }}", "push a, b");
    check("{{ query.name }}", "a b");
    check("{{ event.type }} {{ event.subject }} {{ event.time }}", "push octo/site 1970-01-01T00:00:00Z");
    check("{{ file.path }} {{ file.size }} {{ file.labels.role }}", "/data/in/a b.csv 12 ingest");
    // What is in a value stays there: it is never read as a template.
    check("{{ body.evil }}", "$(id) `id` {{ body.n }}\n-rf");
    check("{{ '{{' }}.ID}} {{ \"}}\" }}", "{{.ID}} }}");
}

#[test]
fn filters() {
    let check =
        |source: &str, expected: &str| assert_eq!(render(source).as_deref(), Ok(expected), "{source}");
    check("{{ body.ref | upper }}", "REFS/HEADS/MAIN");
    check("{{ body.ref|basename|upper }}", "MAIN");
    check("{{ body.ref | replace('refs/heads/', '') | trim }}", "main");
    check("{{ body.list | join(', ') }}{{ body.list | length }}", "a, b2");
    check("{{ body.html | tojson }} {{ body.nothing | json }}", "\"<a & 'b'>\" null");
    check(
        "{{ body.none | default('x') }}{{ body.a.b.c | default(5) }}{{ body.nothing | default(true) }}",
        "x5true",
    );
    check("{{ body.n | default('x') }}{{ body.none | default('') }}", "7");
    check("{{ body.none | default('AbC') | lower }}", "abc");
}

#[test]
fn what_has_no_value_is_an_error() {
    let check =
        |source: &str, expected: &str| assert_eq!(render(source), Err(expected.to_owned()), "{source}");
    check("{{ body.reff }}", "body has no field \"reff\"");
    check("{{ body.head.files[3] }}", "body.head.files has no element 3: it has 1");
    check("{{ body.ref.x }}", "body.ref is a text, it has no field \"x\"");
    check("{{ body.nothing.x }}", "body.nothing is null, it has no field \"x\"");
    check("{{ body.none | upper | default('x') }}", "body has no field \"none\"");
    check("{{ body.nothing | upper }}", "body.nothing is null; put | default(\"..\") before | upper");
    check("{{ body.nul }}", "the text holds a NUL byte, which no process can be given");
}

#[test]
fn what_is_no_template_is_refused() {
    let check = |source: &str, expected: &str| {
        let error = render(source).expect_err(source);
        assert!(error.contains(expected), "{source}: {error}");
    };
    check("{{ body.a", "no closing");
    check("{{ }}", "is no path");
    check("{{ bdy.a }}", "did you mean \"body\"");
    check("{{ body.a.b() }}", "only filters follow");
    check("{{ body.a ~ body.b }}", "only filters follow");
    check("{{ body.a if body.b }}", "only filters follow");
    check("{{ 'x' * 99999999 }}", "only filters follow");
    check("{{ body.a | safe }}", "there is no filter");
    check("{{ body.a | default(body.b) }}", "literals only");
    check("{{ body.a | default(range(9)) }}", "literals only");
    check("{% for x in body %}{{ x }}{% endfor %}", "no {% blocks %}");
}

#[test]
fn what_is_rendered_is_bounded() {
    let event = event();
    let render = |source: &str, text: String| {
        let body = Body::Text(text);
        let facts = Facts { event: &event, body: &body, file: None };
        Template::compile(source).expect("a template").render(&facts).map(|text| text.len())
    };
    assert_eq!(render("{{ body }}", "x".repeat(MAX_RENDERED)), Ok(MAX_RENDERED));
    assert!(render("{{ body }}.", "x".repeat(MAX_RENDERED)).is_err());
    let grow = format!("{{{{ body | replace('x', '{}') }}}}", "y".repeat(1000));
    assert!(render(&grow, "x".repeat(100_000)).is_err());
    assert!(render("{{ body | replace('', 'yyyy') }}", "x".repeat(100_000)).is_err());
}

proptest! {
    #[test]
    fn a_text_comes_through_unchanged(text in "[^\0]{0,200}") {
        let (event, body) = (event(), Body::Json(json!({"x": text})));
        let facts = Facts { event: &event, body: &body, file: None };
        let rendered = Template::compile("{{ body.x }}").expect("a template").render(&facts);
        prop_assert_eq!(rendered, Ok(text.clone()));
        let decoded: serde_json::Value = serde_json::from_str(
            &Template::compile("{{ body.x | tojson }}").expect("a template").render(&facts).expect("a text"),
        ).expect("JSON");
        prop_assert_eq!(decoded, json!(text));
    }

    #[test]
    fn no_source_panics(source in "[{}|%#'\"a-z. \\[\\]()0-9\\-ä]{0,60}") {
        if let Ok(template) = Template::compile(&source) {
            let event = event();
            let _ = template.render(&Facts { event: &event, body: &Body::Empty, file: None });
        }
        let _ = Template::compile(&format!("{{{{ body{source} }}}}"));
        let _ = Template::compile(&format!("{{{{ body.a|{source} }}}}"));
    }
}
