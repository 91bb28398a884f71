//! The server's API over HTTP.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, header::ACCEPT};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::error::CliError;

pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
}

/// A page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct List<T> {
    pub items: Vec<T>,
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The part of RFC 9457 that people read.
#[derive(Debug, Deserialize)]
struct Problem {
    title: String,
    detail: Option<String>,
}

impl Client {
    pub(crate) fn new(server: &str) -> Result<Self, CliError> {
        let base = server.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            return Err(CliError::Usage(format!(
                "--server {server:?} is not a URL of the form http://HOST:PORT"
            )));
        }
        Ok(Self { base, http: http_client()? })
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, CliError> {
        let response = self.send(self.request(Method::GET, path).query(query)).await?;
        self.read(response).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let response = self.send(self.request(Method::POST, path).json(body)).await?;
        self.read(response).await
    }

    /// A POST that may be repeated: what was done under the key is not done again.
    pub(crate) async fn post_once<T: DeserializeOwned>(
        &self,
        path: &str,
        key: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let request = self.request(Method::POST, path).header("Idempotency-Key", key).json(body);
        let response = self.send(request).await?;
        self.read(response).await
    }

    /// A POST or DELETE whose answer only matters when it is a refusal.
    pub(crate) async fn act(&self, method: Method, path: &str) -> Result<(), CliError> {
        self.send(self.request(method, path)).await.map(drop)
    }

    /// The raw answer, to be read as it comes.
    pub(crate) async fn open(
        &self,
        path: &str,
        accept: &str,
        last_event_id: Option<&str>,
    ) -> Result<Response, CliError> {
        let mut request = self.request(Method::GET, path).header(ACCEPT, accept);
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        self.send(request).await
    }

    /// The answer whatever its status, for health.
    pub(crate) async fn any_status<T: DeserializeOwned>(&self, path: &str) -> Result<(u16, T), CliError> {
        let response = self.request(Method::GET, path).send().await.map_err(|e| self.unreachable(&e))?;
        Ok((response.status().as_u16(), self.read(response).await?))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1/{path}", self.base))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        let problem = serde_json::from_str::<Problem>(&text).ok();
        Err(CliError::Refused {
            status: status.as_u16(),
            title: problem.as_ref().map_or_else(|| status.to_string(), |problem| problem.title.clone()),
            detail: problem.and_then(|problem| problem.detail),
        })
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, CliError> {
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text)
            .map_err(|error| CliError::Failed(format!("the server's answer is not as expected: {error}")))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CliError {
        let option = "--server URL or HETUFLOW_URL";
        CliError::Unreachable { url: self.base.clone(), reason: innermost(error), option }
    }
}

pub(crate) fn http_client() -> Result<reqwest::Client, CliError> {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .no_proxy()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot make an HTTP client: {error}")))
}

/// The last cause: the part that says something to a person, such as "Connection refused".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}
