//! What a process says to those that come after it: values by their names, in the file that `HETUFLOW_OUTPUT` names.

use std::collections::BTreeMap;

use serde_json::Value;

/// Values by their names.
pub type Outputs = BTreeMap<String, Value>;

/// A file with more, in bytes, is not taken.
pub const MOST: usize = 16 * 1024;

/// Reads such a file: an object of JSON, or lines `name=value`, of which a later one of the same name wins. Empty lines
/// say nothing.
///
/// # Errors
/// One sentence that says what is wrong, and where.
pub fn read(bytes: &[u8]) -> Result<Outputs, String> {
    if bytes.len() > MOST {
        return Err(format!("it has more than {MOST} bytes"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|error| format!("its byte {} is not UTF-8", error.valid_up_to() + 1))?;
    if text.trim_start().starts_with('{') {
        let outputs: Outputs =
            serde_json::from_str(text).map_err(|error| format!("its JSON is broken: {error}"))?;
        return match outputs.keys().find(|name| !is_name(name)) {
            Some(name) => Err(unnamed(name, "its object")),
            None => Ok(outputs),
        };
    }
    let mut outputs = Outputs::new();
    for (line, n) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(|| {
            format!("its line {n} is not name=value, and the file is not an object of JSON")
        })?;
        if !is_name(name) {
            return Err(unnamed(name, &format!("its line {n}")));
        }
        outputs.insert(name.to_owned(), Value::from(value));
    }
    Ok(outputs)
}

/// What a path of a template can name.
fn is_name(name: &str) -> bool {
    let first = name.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
    first && name.len() <= 128 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn unnamed(name: &str, place: &str) -> String {
    let name: String = name.chars().take(40).collect();
    format!(
        "{place} has the name {name:?}; a name is letters, digits and _, begins with no digit, and has 128 at most"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_and_objects_are_read() {
        let check = |text: &str, expected: Value| {
            assert_eq!(json!(read(text.as_bytes()).expect(text)), expected);
        };
        check("", json!({}));
        check("\n \n", json!({}));
        check("rows=12\nfile=/a b=c\nempty=\n", json!({"rows": "12", "file": "/a b=c", "empty": ""}));
        check("a=1\r\na=2\r\n", json!({"a": "2"}));
        check(" {\"rows\": 12, \"list\": [1, null]}\n", json!({"rows": 12, "list": [1, null]}));
    }

    #[test]
    fn what_is_neither_says_where() {
        let check = |bytes: &[u8], expected: &str| {
            let error = read(bytes).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        check(b"a=1\nno value\n", "line 2 is not name=value");
        check(b"1a=2", "line 1 has the name \"1a\"");
        check(b"=2", "the name \"\"");
        check(b"{\"a\": 1", "its JSON is broken: EOF");
        check(b"{\"a-b\": 1}", "its object has the name \"a-b\"");
        check(b"a=\xff", "its byte 3 is not UTF-8");
        check(&vec![b'a'; MOST + 1], "more than 16384 bytes");
    }
}
