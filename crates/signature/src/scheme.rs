//! What a scheme file says.

/// A provider's rule, parsed and checked.
#[derive(Debug, Clone)]
pub struct Scheme {
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemeError(pub String);

impl Scheme {
    /// The names of the schemes that are built in, sorted.
    pub fn names() -> Vec<&'static str> {
        todo!()
    }

    /// A built-in scheme with the options of a trigger (`hmac` needs some, the others take none).
    /// The error says in one sentence what is allowed.
    pub fn builtin(
        _name: &str,
        _options: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Self, SchemeError> {
        todo!()
    }

    /// A scheme file of a user.
    pub fn parse(_name: &str, _text: &str) -> Result<Self, SchemeError> {
        todo!()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Headers whose values must not be stored in clear.
    pub fn secret_headers(&self) -> Vec<String> {
        todo!()
    }

    /// Headers (lower case) that must be there, once each, before the body is worth reading.
    pub fn required_headers(&self) -> Vec<String> {
        todo!()
    }

    /// A sample delivery that the provider could send: event type and body.
    pub fn sample(&self) -> (&str, &str) {
        todo!()
    }
}
