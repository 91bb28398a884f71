//! How bytes are written as text in headers and secrets. Decoding is strict: what another reading could
//! take for the same bytes is refused, except that hex digits come in both cases.

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// The bytes themselves. For secrets that are sent as they are.
    Text,
    Hex,
    /// The standard alphabet, with padding.
    Base64,
    /// The alphabet for addresses; senders write it with and without padding.
    Base64Url,
}

const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl Encoding {
    pub(crate) const NAMES: [&str; 4] = ["text", "hex", "base64", "base64url"];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            "base64url" => Some(Self::Base64Url),
            _ => None,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
        }
    }

    pub(crate) fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(text.to_vec()),
            Self::Hex => hex::decode(text).ok(),
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Base64Url => BASE64_URL.decode(text).ok(),
        }
    }

    pub(crate) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Text => String::from_utf8_lossy(bytes).into_owned(),
            Self::Hex => hex::encode(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => BASE64_URL.encode(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        let check = |encoding: Encoding, text: &str, expected: Option<&[u8]>| {
            assert_eq!(encoding.decode(text.as_bytes()).as_deref(), expected, "{encoding:?} {text:?}");
        };
        check(Encoding::Hex, "00ffAb", Some(&[0, 255, 0xab]));
        check(Encoding::Hex, "0", None);
        check(Encoding::Hex, "0x00", None);
        check(Encoding::Hex, " 00", None);
        check(Encoding::Base64, "+/8=", Some(&[0xfb, 0xff]));
        check(Encoding::Base64, "+/8", None);
        check(Encoding::Base64, "+/9=", None);
        check(Encoding::Base64, "-_8=", None);
        check(Encoding::Base64, "+/8=\n", None);
        check(Encoding::Base64Url, "-_8=", Some(&[0xfb, 0xff]));
        check(Encoding::Base64Url, "-_8", Some(&[0xfb, 0xff]));
        check(Encoding::Base64Url, "+/8=", None);
    }

    #[test]
    fn what_is_written_reads_back() {
        for name in Encoding::NAMES {
            let encoding = Encoding::from_name(name).expect("a name of the list");
            assert_eq!(encoding.name(), name);
            let bytes: &[u8] = if encoding == Encoding::Text { b"text" } else { &[0, 1, 254, 255] };
            assert_eq!(encoding.decode(encoding.encode(bytes).as_bytes()).as_deref(), Some(bytes));
        }
    }
}
