//! Conditions that nobody would write by hand: none panics, none runs away.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;

/// A condition over lists of a body, with loops in loops, as somebody might write it to break the server.
fn loops() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "x",
        "y",
        "1",
        "body.a",
        "body.b",
        "body.t",
        "'x'",
        "[1, 2, 3]",
        "body.a[0]",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(4, 24, 3, |inner| {
        let list =
            prop::sample::select(vec!["body.a", "body.b", "(body.a + body.b)", "body.a.map(z, body.b)"]);
        let name = prop::sample::select(vec!["x", "y"]);
        let walk = prop::sample::select(vec!["all", "exists", "filter", "map", "exists_one"]);
        let join = prop::sample::select(vec!["==", "+", "in", "<", "&&", "||"]);
        prop_oneof![
            (list, walk, name, inner.clone())
                .prop_map(|(list, walk, name, inner)| format!("{list}.{walk}({name}, {inner})")),
            (inner.clone(), join, inner.clone())
                .prop_map(|(left, join, right)| format!("({left} {join} {right})")),
            inner.clone().prop_map(|inner| format!("size({inner})")),
            inner.clone().prop_map(|inner| format!("string({inner}).matches('^(a|aa)+$')")),
            inner.prop_map(|inner| format!("string({inner}).inCidr('10.0.0.0/8')")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Without the bound, two of these loops in each other take a second and three of them an hour.
    #[test]
    fn no_loops_run_away(source in loops()) {
        if let Ok(condition) = Condition::compile(&source) {
            let body = Body::Json(json!({"a": numbers(2000), "b": vec!["a".repeat(50); 500], "t": "a".repeat(100_000)}));
            let begun = std::time::Instant::now();
            let finding = condition.judge(&Facts { event: &event(), body: &body, file: None });
            prop_assert!(begun.elapsed().as_secs() < 20, "{source} took {:?}: {finding:?}", begun.elapsed());
        }
    }
}

proptest! {
    #[test]
    fn no_source_panics(source in "[ -~äß\n]{0,60}") {
        let _ = Condition::compile(&source);
    }

    #[test]
    fn no_plausible_source_panics(words in prop::collection::vec(
        prop::sample::select(vec![
            "body", ".", "a", "[", "]", "(", ")", "0", "-1", "'x'", "==", "&&", "||", "!", "?", ":", "in", "size", ",",
            "all", "map", "x", "has", "+", "timestamp", "duration", "int", "9223372036854775807", "matches", "{", "}",
        ]), 0..25)) {
        let source = words.join("");
        if let Ok(condition) = Condition::compile(&source) {
            let body = Body::Json(json!({"a": [1, "x", {"a": null}]}));
            let _ = condition.judge(&Facts { event: &event(), body: &body, file: None });
        }
        let mut spaced = String::new();
        for word in words {
            write!(spaced, "{word} ").expect("a String takes everything");
        }
        let _ = Condition::compile(&spaced);
    }
}
