//! A join token as it is handed from one person to another: one word, made on a server, used once by an agent. It
//! holds the keys of the servers too, so that the agent needs to believe nobody else.
//!
//! ```text
//! hetuflow-join-  then, in base64 for URLs without padding:  1 byte version (1), 32 bytes secret, 32 bytes for each server's key
//! ```

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hetuflow_core::fingerprint::{Fingerprint, TokenHash, TokenSecret};

use crate::sha256;

const PREFIX: &str = "hetuflow-join-";
const VERSION: u8 = 1;
/// More servers than any database has; what is longer is no token.
const MAX_SERVERS: usize = 64;

#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    pub secret: TokenSecret,
    /// The keys of the servers that the agent may talk to.
    pub servers: Vec<Fingerprint>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no join token (or only a part of one): `hetuflow agent token` makes one, a word that starts with {PREFIX}"
)]
pub struct NoToken;

impl JoinToken {
    /// With a new secret of 256 random bits.
    #[must_use]
    pub fn make(servers: Vec<Fingerprint>) -> Self {
        let mut secret = [0; 32];
        // The system's generator does not fail once the system runs; a process without it must not go on.
        aws_lc_rs::rand::fill(&mut secret).unwrap_or_else(|_| std::process::abort());
        Self { secret: TokenSecret(secret), servers }
    }

    /// The word to hand on. Whoever has it can join.
    #[must_use]
    pub fn reveal(&self) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend(self.secret.0);
        bytes.extend(self.servers.iter().flat_map(|server| server.0));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// What is stored of a token, and compared. The secret is as random as the hash, so it needs no salt.
#[must_use]
pub fn hash(secret: &TokenSecret) -> TokenHash {
    TokenHash(sha256(&secret.0))
}

impl FromStr for JoinToken {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let encoded = text.trim().strip_prefix(PREFIX).ok_or(NoToken)?;
        let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| NoToken)?;
        let Some((&VERSION, rest)) = bytes.split_first() else { return Err(NoToken) };
        let (words, torn) = rest.as_chunks::<32>();
        match words {
            [secret, servers @ ..] if torn.is_empty() && (1..=MAX_SERVERS).contains(&servers.len()) => {
                Ok(Self {
                    secret: TokenSecret(*secret),
                    servers: servers.iter().copied().map(Fingerprint).collect(),
                })
            }
            _ => Err(NoToken),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("servers", &self.servers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_whole_or_not_at_all() {
        let token = JoinToken::make(vec![Fingerprint([1; 32]), Fingerprint([2; 32])]);
        let text = token.reveal();
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        for end in 0..text.len() {
            let part = &text[..end];
            // What was cut behind the first server would be a token of fewer servers.
            let shorter = part.parse::<JoinToken>();
            assert!(shorter.is_err() || shorter.is_ok_and(|short| short.servers.len() == 1), "{part}");
        }
        assert_ne!(JoinToken::make(Vec::new()).secret, token.secret);
        assert!(!format!("{token:?}").contains(&text[15..40]));
    }
}
