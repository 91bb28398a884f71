//! One question to a sender's server: https with a certificate that holds, nothing but the address itself, soon and
//! small. Made at the first question, because most servers never ask one.

use std::{path::PathBuf, time::Duration};

use hetuflow_signature::Secret;
use http::{StatusCode, header};
use reqwest::{Certificate, Proxy, Response, redirect::Policy};
use tokio::{sync::OnceCell, time::timeout};

use crate::config::HookLimits;

/// From the connection's start to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
const LARGEST: usize = 64 * 1024;
/// Where the answer does not say how long it holds; and the bounds of what it may say.
const FRESH: Duration = Duration::from_hours(1);
const SHORTEST: Duration = Duration::from_mins(5);
const LONGEST: Duration = Duration::from_hours(24);

pub(super) struct Client {
    authorities: Option<PathBuf>,
    proxy: String,
    made: OnceCell<reqwest::Client>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("no answer within {} s", DEADLINE.as_secs())]
    Late,
    #[error("{}", causes(.0))]
    Failed(#[from] reqwest::Error),
    #[error("the answer is {0}")]
    Status(StatusCode),
    #[error("it is larger than {LARGEST} bytes")]
    Large,
    #[error("it is empty")]
    Empty,
    #[error("it holds no key that the scheme can verify with")]
    NoKey,
    #[error("hooks.key_authorities: {0}")]
    Authorities(String),
}

impl Client {
    pub(super) fn new(limits: &HookLimits) -> Self {
        let authorities = Some(limits.key_authorities.clone()).filter(|path| !path.as_os_str().is_empty());
        Self { authorities, proxy: limits.key_proxy.clone(), made: OnceCell::new() }
    }

    /// What is there, and for how long that holds.
    pub(super) async fn fetch(&self, url: &str) -> Result<(Secret, Duration), FetchError> {
        timeout(DEADLINE, self.read(url)).await.map_err(|_| FetchError::Late)?
    }

    async fn read(&self, url: &str) -> Result<(Secret, Duration), FetchError> {
        let client = self.made.get_or_try_init(|| self.make()).await?;
        let mut response = client.get(url).send().await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let fresh_for = fresh_for(&response);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                return Err(FetchError::Large);
            }
            body.extend_from_slice(&chunk);
        }
        if body.trim_ascii().is_empty() {
            return Err(FetchError::Empty);
        }
        Ok((Secret::new(body), fresh_for))
    }

    async fn make(&self) -> Result<reqwest::Client, FetchError> {
        let mut builder = reqwest::Client::builder()
            .https_only(true)
            .redirect(Policy::none())
            .no_proxy()
            .user_agent(concat!("hetuflow/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &self.authorities {
            let wrong = |error: &dyn std::fmt::Display| {
                FetchError::Authorities(format!("{}: {error}", path.display()))
            };
            let text = tokio::fs::read(path).await.map_err(|error| wrong(&error))?;
            let all = Certificate::from_pem_bundle(&text).map_err(|error| wrong(&error))?;
            builder = builder.tls_certs_merge(all);
        }
        if !self.proxy.is_empty() {
            builder = builder.proxy(Proxy::https(&self.proxy)?);
        }
        Ok(builder.build()?)
    }
}

/// RFC 9111, `max-age`, as far as it is reasonable.
fn fresh_for(response: &Response) -> Duration {
    let said = response.headers().get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let mut directives = said.unwrap_or_default().split(',').map(str::trim);
    let age = directives.find_map(|one| one.strip_prefix("max-age=")?.parse().ok());
    age.map_or(FRESH, |seconds| Duration::from_secs(seconds).clamp(SHORTEST, LONGEST))
}

/// An error with what led to it: the outermost says no more than that it failed.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
