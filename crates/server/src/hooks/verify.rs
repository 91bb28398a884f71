//! Whether a delivery is authentic. The keys that its sender publishes are fetched where no secret of its hook's own
//! fits.

use std::sync::Arc;

use bytes::Bytes;
use hetuflow_signature::{Judged, Rejection, Request as Signed, Secret, Verified};

use super::{Hooks, delivery::Delivery};
use crate::{
    api::error::ApiError,
    intake::SMALL,
    keys::{KeyError, Question},
    listen::Prefix,
    triggers::Route,
};

/// Whose signature it was, by the place of a secret in the list that was judged by.
#[derive(Debug, Default)]
pub(super) struct Signers {
    /// Addresses of the keys behind the secrets of the route itself.
    published: Vec<String>,
}

impl Signers {
    /// Where the secret is kept, in words.
    pub(super) fn of(&self, route: &Route, verified: &Verified) -> Option<String> {
        let own = route.secrets_from.get(verified.secret).cloned();
        own.or_else(|| Some(format!("url {}", self.url(route, verified)?)))
    }

    fn url(&self, route: &Route, verified: &Verified) -> Option<&String> {
        self.published.get(verified.secret.checked_sub(route.secrets.len())?)
    }
}

/// The inner error is the reason why it is not authentic; the outer one says that nobody can tell now.
pub(super) async fn verify(
    hooks: &Hooks,
    delivery: &Delivery,
    route: &Route,
    body: &Bytes,
    url: &str,
) -> Result<Result<(Judged, Signers), String>, ApiError> {
    let (published, named_by) = match judge(delivery, route, body, url, &route.secrets).await? {
        Err(Rejection::KeyNeeded { url, by_sender, .. }) if route.published.is_empty() => {
            (vec![url], by_sender.then(|| Prefix::of(delivery.sender)))
        }
        Err(rejection) if another_key_may_fit(&rejection) && !route.published.is_empty() => {
            (route.published.clone(), None)
        }
        judged => {
            return Ok(judged.map(|judged| (judged, Signers::default())).map_err(|why| why.to_string()));
        }
    };
    let signers = Signers { published };
    let questions: Vec<Question<'_>> =
        signers.published.iter().map(|url| Question { url, named_by, scheme: &route.scheme }).collect();
    let mut secrets = route.secrets.clone();
    for question in &questions {
        secrets.push(hooks.keys.get(*question).await?);
    }
    let mut judged = judge(delivery, route, body, url, &secrets).await?;
    // Perhaps with a key that is newer than what is known.
    if judged.as_ref().is_err_and(another_key_may_fit)
        && renew(hooks, &questions, &mut secrets[route.secrets.len()..]).await
    {
        judged = judge(delivery, route, body, url, &secrets).await?;
    }
    if let Ok(Judged::Delivery(verified)) = &judged
        && let Some(url) = signers.url(route, verified)
    {
        hooks.keys.proved(url);
    }
    Ok(judged.map(|judged| (judged, signers)).map_err(|why| why.to_string()))
}

fn another_key_may_fit(rejection: &Rejection) -> bool {
    matches!(
        rejection,
        Rejection::KeyNeeded { .. } | Rejection::NoSecret | Rejection::Mismatch | Rejection::Expired { .. }
    )
}

/// Whether anything has changed.
async fn renew(hooks: &Hooks, questions: &[Question<'_>], secrets: &mut [Secret]) -> bool {
    let mut changed = false;
    for (question, secret) in questions.iter().zip(secrets) {
        if let Some(newer) = hooks.keys.newer(*question, secret).await {
            (*secret, changed) = (newer, true);
        }
    }
    changed
}

/// A large body takes its time, on a thread of its own.
async fn judge(
    delivery: &Delivery,
    route: &Route,
    body: &Bytes,
    url: &str,
    secrets: &[Secret],
) -> Result<Result<Judged, Rejection>, ApiError> {
    let method = delivery.parts.method.as_str();
    if body.len() <= SMALL {
        let request = Signed { method, url, headers: &delivery.headers, body };
        return Ok(route.scheme.judge(&request, secrets, Some(delivery.now), route.waiting()));
    }
    let (set, key, headers, now, body) = (
        Arc::clone(&delivery.set),
        delivery.key.clone(),
        delivery.headers.clone(),
        delivery.now,
        body.clone(),
    );
    let (method, url, secrets) = (method.to_owned(), url.to_owned(), secrets.to_owned());
    let verify = move || {
        let route = set.routes.get(&key)?;
        let request = Signed { method: &method, url: &url, headers: &headers, body: &body };
        Some(route.scheme.judge(&request, &secrets, Some(now), route.waiting()))
    };
    let judged = tokio::task::spawn_blocking(verify).await;
    let judged = judged.map_err(|error| ApiError::Internal(format!("verification broke: {error}")))?;
    judged.ok_or_else(super::receive::unknown)
}

/// Its sender comes again.
impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
