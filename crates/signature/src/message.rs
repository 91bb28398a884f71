//! The message that a signature covers, as a template: `{id}.{timestamp}.{body}`.

use hetuflow_core::suggest::among;

/// A parsed template. It always holds the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Value(Value),
}

/// What a request puts into the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value {
    Id,
    Timestamp,
    Body,
}

impl Value {
    const NAMES: [&str; 3] = ["id", "timestamp", "body"];

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "id" => Some(Self::Id),
            "timestamp" => Some(Self::Timestamp),
            "body" => Some(Self::Body),
            _ => None,
        }
    }
}

impl Message {
    pub(crate) fn parse(template: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            let (name, after) =
                after.split_once('}').ok_or_else(|| format!("{template:?} lacks a closing brace"))?;
            if !text.is_empty() {
                pieces.push(Piece::Text(text.to_owned()));
            }
            let value = Value::from_name(name)
                .ok_or_else(|| format!("{{{name}}} is not known ({})", among(name, &Value::NAMES)))?;
            pieces.push(Piece::Value(value));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Self(pieces).check(template)
    }

    fn check(self, template: &str) -> Result<Self, String> {
        if !self.holds(Value::Body) {
            return Err(format!("{template:?} does not hold {{body}}, so that any body would pass"));
        }
        // Two requests must not be able to share one message by moving bytes from the id to what follows it.
        // A timestamp may touch its neighbour, because providers do so and it is judged by the clock.
        let shifts = self
            .0
            .windows(2)
            .any(|pair| pair[0] == Piece::Value(Value::Id) && matches!(pair[1], Piece::Value(_)));
        if shifts {
            return Err(format!("{template:?} needs a separator after {{id}}"));
        }
        Ok(self)
    }

    pub(crate) fn holds(&self, value: Value) -> bool {
        self.0.contains(&Piece::Value(value))
    }

    /// Whether `content` can be told apart from the separator that follows `value`. The body may hold anything.
    pub(crate) fn admits(&self, value: Value, content: &str) -> bool {
        self.0.windows(2).all(|pair| match (&pair[0], &pair[1]) {
            (Piece::Value(found), Piece::Text(separator)) if *found == value => !content.contains(separator),
            _ => true,
        })
    }

    /// The message in parts, so that the body is not copied.
    pub(crate) fn fill<'a>(&'a self, id: &'a str, timestamp: &'a str, body: &'a [u8]) -> Vec<&'a [u8]> {
        let piece = |piece: &'a Piece| match piece {
            Piece::Text(text) => text.as_bytes(),
            Piece::Value(Value::Id) => id.as_bytes(),
            Piece::Value(Value::Timestamp) => timestamp.as_bytes(),
            Piece::Value(Value::Body) => body,
        };
        self.0.iter().map(piece).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let check = |template: &str, expected: Result<&str, &str>| {
            let message = Message::parse(template);
            let filled = message.as_ref().map(|m| m.fill("ID", "17", b"BODY").concat());
            let filled = filled.map(|bytes| String::from_utf8(bytes).expect("text"));
            assert_eq!(filled.as_deref().map_err(|e| e.as_str()), expected, "{template:?}");
        };
        check("{body}", Ok("BODY"));
        check("v0:{timestamp}:{body}", Ok("v0:17:BODY"));
        check("{id}.{timestamp}.{body}.", Ok("ID.17.BODY."));
        check("{timestamp}{body}", Ok("17BODY"));
        check("{timestamp}", Err("\"{timestamp}\" does not hold {body}, so that any body would pass"));
        check("{id}{body}", Err("\"{id}{body}\" needs a separator after {id}"));
        check("{boddy}", Err("{boddy} is not known (did you mean \"body\"? Allowed: id, timestamp, body)"));
        check("{url}{body}", Err("{url} is not known (allowed: id, timestamp, body)"));
        check("{body", Err("\"{body\" lacks a closing brace"));
    }

    #[test]
    fn a_value_must_not_hold_its_separator() {
        let message = Message::parse("{id}.{timestamp}.{body}").expect("a template");
        assert!(message.admits(Value::Id, "msg_1"));
        assert!(!message.admits(Value::Id, "msg.1"));
    }
}
