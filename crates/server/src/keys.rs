//! Public keys that senders publish at an address: fetched when a delivery is there that needs them, and kept.
//! Which addresses count is said by schemes and trigger files; what is here bounds how often they are asked. The hooks
//! ask for keys, after the body and before the signature.

mod client;

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use governor::Quota;
use hetuflow_signature::{Scheme, Secret};
use tokio::time::Instant;

use crate::{config::HookLimits, hooks::Rates, listen::Prefix, metrics::Metrics};
use client::{Client, FetchError};

/// Addresses whose keys are kept. Those whose keys have verified something go last.
const KEPT: usize = 64;
/// New addresses in a minute that the deliveries of one sender name: nothing has verified them yet.
const NEW_IN_A_MINUTE: NonZeroU32 = NonZeroU32::new(30).expect("is not 0");
/// Between two questions for one address, whatever came of the first.
const PAUSE: Duration = Duration::from_secs(10);
/// A key that cannot be had anew is used this much longer.
const STALE: Duration = Duration::from_hours(24);

pub(crate) struct Keyring {
    client: Client,
    known: Mutex<BTreeMap<String, Arc<Slot>>>,
    named: Rates,
    metrics: Arc<Metrics>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    #[error("keys of too many new addresses are asked for")]
    TooMany,
    #[error("the keys at {0} cannot be fetched: {1}")]
    Failed(String, String),
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) url: &'a str,
    /// Whose delivery names the address. Those of schemes and of trigger files are nobody's, and never too many.
    pub(crate) named_by: Option<Prefix>,
    /// What is there must be a key for it.
    pub(crate) scheme: &'a Scheme,
}

/// One address.
struct Slot {
    /// Held by whoever asks; others wait for the answer.
    asking: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
}

struct Held {
    key: Option<Kept>,
    /// When somebody asked last, and what was wrong then.
    asked: Option<(Instant, Option<String>)>,
    used: Instant,
    proven: bool,
}

struct Kept {
    key: Secret,
    fresh_until: Instant,
}

impl Keyring {
    pub(crate) fn new(limits: &HookLimits, metrics: Arc<Metrics>) -> Self {
        Self {
            client: Client::new(limits),
            known: Mutex::default(),
            named: Rates::with(Quota::per_minute(NEW_IN_A_MINUTE)),
            metrics,
        }
    }

    /// What is published there.
    pub(crate) async fn get(&self, question: Question<'_>) -> Result<Secret, KeyError> {
        let slot = self.slot(question)?;
        if let Some(key) = slot.fresh() {
            return Ok(key);
        }
        // Whoever has an older key need not wait for the one who asks.
        let asking = match (slot.asking.try_lock(), slot.stale()) {
            (Ok(asking), _) => asking,
            (Err(_), Some(stale)) => return Ok(stale),
            (Err(_), None) => slot.asking.lock().await,
        };
        if let Some(key) = slot.fresh() {
            return Ok(key);
        }
        let key = self.ask(question, &slot).await;
        drop(asking);
        key
    }

    /// What is published there now, where that is something else than what did not fit.
    pub(crate) async fn newer(&self, question: Question<'_>, than: &Secret) -> Option<Secret> {
        let slot = self.slot(question).ok()?;
        let _asking = slot.asking.lock().await;
        let key = self.ask(question, &slot).await.ok()?;
        (key.expose() != than.expose()).then_some(key)
    }

    /// A signature was verified with it.
    pub(crate) fn proved(&self, url: &str) {
        if let Some(slot) = locked(&self.known).get(url) {
            locked(&slot.held).proven = true;
        }
    }

    /// Forgets senders that have their whole allowance again.
    pub(crate) fn sweep(&self) {
        self.named.sweep();
    }

    async fn ask(&self, Question { url, scheme, .. }: Question<'_>, slot: &Slot) -> Result<Secret, KeyError> {
        let failed = |why: String| KeyError::Failed(url.to_owned(), why);
        let now = Instant::now();
        let asked = locked(&slot.held).asked.clone();
        if let Some((asked, problem)) = asked
            && now < asked + PAUSE
        {
            return slot.stale().ok_or_else(|| failed(problem.unwrap_or_default()));
        }
        // A page that says that all is well, but holds no key, takes the place of none.
        let fetched = self.client.fetch(url).await;
        let fetched =
            fetched.and_then(|found| if scheme.takes(&found.0) { Ok(found) } else { Err(FetchError::NoKey) });
        let mut held = locked(&slot.held);
        match fetched {
            Ok((key, fresh_for)) => {
                self.metrics.keys_fetched.inc();
                held.asked = Some((now, None));
                held.key = Some(Kept { key: key.clone(), fresh_until: now + fresh_for });
                Ok(key)
            }
            Err(error) => {
                self.metrics.keys_failed.inc();
                tracing::warn!(url, %error, "the keys of a sender cannot be fetched");
                held.asked = Some((now, Some(error.to_string())));
                drop(held);
                slot.stale().ok_or_else(|| failed(error.to_string()))
            }
        }
    }

    fn slot(&self, Question { url, named_by, .. }: Question<'_>) -> Result<Arc<Slot>, KeyError> {
        let mut known = locked(&self.known);
        let now = Instant::now();
        if let Some(slot) = known.get(url) {
            locked(&slot.held).used = now;
            return Ok(Arc::clone(slot));
        }
        if let Some(sender) = named_by {
            self.named.check_each(sender).map_err(|_| KeyError::TooMany)?;
        }
        if known.len() >= KEPT {
            let last = known.iter().min_by_key(|(_, slot)| {
                let held = locked(&slot.held);
                (held.proven, held.used)
            });
            if let Some(last) = last.map(|(url, _)| url.clone()) {
                known.remove(&last);
            }
        }
        // What senders name takes the place of nothing else.
        let held = Held { key: None, asked: None, used: now, proven: named_by.is_none() };
        let slot = Arc::new(Slot { asking: tokio::sync::Mutex::default(), held: Mutex::new(held) });
        known.insert(url.to_owned(), Arc::clone(&slot));
        Ok(slot)
    }
}

impl Slot {
    fn fresh(&self) -> Option<Secret> {
        let held = locked(&self.held);
        held.key.as_ref().filter(|kept| Instant::now() < kept.fresh_until).map(|kept| kept.key.clone())
    }

    fn stale(&self) -> Option<Secret> {
        let held = locked(&self.held);
        held.key
            .as_ref()
            .filter(|kept| Instant::now() < kept.fresh_until + STALE)
            .map(|kept| kept.key.clone())
    }
}

/// Nothing panics while it holds one of these.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
