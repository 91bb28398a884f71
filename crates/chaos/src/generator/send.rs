//! One delivery, signed as GitHub signs.

use std::{net::SocketAddr, time::Duration};

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::Sha256;

use crate::{
    history::Answer,
    jobs::{has_twin, hook_of},
    world::SECRET,
};

/// As impatient as a sender can be.
const WITHIN: Duration = Duration::from_secs(4);

pub(super) struct Sender(reqwest::Client);

#[derive(Deserialize)]
struct Receipt {
    event_id: String,
    task_ids: Vec<String>,
    duplicate: bool,
}

impl Sender {
    pub(super) fn new() -> anyhow::Result<Self> {
        let client = reqwest::Client::builder().no_proxy().timeout(WITHIN).pool_max_idle_per_host(2);
        Ok(Self(client.build()?))
    }

    pub(super) async fn send(&self, hooks: SocketAddr, n: u64) -> Answer {
        let body = format!("{{\"n\":{n},\"twin\":{}}}", has_twin(n));
        let request = self
            .0
            .post(format!("http://{hooks}/hooks/{}", hook_of(n)))
            .header("X-GitHub-Event", "push")
            .header("X-GitHub-Delivery", format!("delivery-{n}"))
            .header("X-Hub-Signature-256", signature(&body))
            .header("Content-Type", "application/json")
            .body(body);
        match request.send().await {
            Ok(response) => read(response).await,
            // Nobody was there to take it.
            Err(error) if error.is_connect() => Answer::Fail(chain(&error)),
            Err(error) => Answer::Info(chain(&error)),
        }
    }
}

async fn read(response: reqwest::Response) -> Answer {
    let status = response.status();
    let text = match response.text().await {
        Ok(text) => text,
        Err(error) => return Answer::Info(chain(&error)),
    };
    if status.is_server_error() {
        // It may have been stored all the same.
        return Answer::Info(format!("{status}: {text}"));
    }
    match serde_json::from_str::<Receipt>(&text) {
        Ok(Receipt { event_id, task_ids, duplicate }) if status.is_success() => {
            Answer::Ok { event_id, task_ids, duplicate }
        }
        Ok(_) | Err(_) => Answer::Fail(format!("{status}: {text}")),
    }
}

pub(crate) fn signature(body: &str) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any length");
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
