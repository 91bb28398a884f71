//! What one hook path leads to: the triggers that share it, with the one scheme and the secrets that
//! they must agree on.

use std::{collections::BTreeMap, net::IpAddr};

use hetuflow_core::{
    event::Event,
    matching::{Wanted, wanted, wanted_by},
    network::Network,
    trigger::{HookResponse, SecretRef, SenderSees, WebhookSource},
};
use hetuflow_signature::{Scheme, Secret, Waiting};
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Live;
use crate::secrets::{self, SecretError, Vault};

#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) scheme: Scheme,
    /// Those that could be resolved. None: every delivery is refused.
    pub(crate) secrets: Vec<Secret>,
    /// Where each of them is kept.
    pub(crate) secrets_from: Vec<String>,
    /// Addresses of the keys that senders publish, behind those.
    pub(crate) published: Vec<String>,
    /// Why the others could not.
    pub(crate) missing_secrets: Vec<String>,
    /// The triggers, by `namespace/name`, each with the places of its sources.
    pub(crate) members: BTreeMap<String, Vec<usize>>,
    /// The largest that any member allows.
    pub(crate) max_body: u64,
    /// The least that any member allows.
    pub(crate) sender_sees: SenderSees,
    /// That of the first member, by name, that has one.
    pub(crate) response: Option<HookResponse>,
    /// The first that any member says; `None` where one says none.
    pub(crate) observe_until: Option<Timestamp>,
    pub(crate) secret_headers: Vec<String>,
    pub(crate) secret_parameters: Vec<String>,
    /// What all members together look at in a body.
    pub(crate) wanted: Wanted,
    agreed: Agreed,
}

/// What triggers that share a path must share too.
#[derive(Debug, Clone, PartialEq)]
struct Agreed {
    scheme: String,
    options: Map<String, Value>,
    secrets: Vec<SecretRef>,
    allow_from: Vec<Network>,
}

/// The path below `/hooks/`, with the namespace always said.
pub(crate) fn route_key(namespace: &str, path: &str) -> String {
    format!("{namespace}/{path}")
}

/// The key of the route that an event of a hook came by, told by its source; `None` for any other event.
pub(crate) fn route_of(event: &Event) -> Option<String> {
    let path = event.source.strip_prefix("/hooks/")?;
    let name = path.rsplit('/').next().unwrap_or(path);
    Some(route_key(event.namespace.as_str(), name))
}

/// Every route of the live triggers, and what keeps some source from having one, by trigger.
pub(crate) fn routes(live: &BTreeMap<String, Live>) -> (BTreeMap<String, Route>, Vec<(String, String)>) {
    let mut routes: BTreeMap<String, Route> = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, live) in live {
        for (index, source) in live.trigger.webhooks.iter().enumerate() {
            let key = route_key(live.trigger.namespace.as_str(), &source.path);
            let joined = match routes.get_mut(&key) {
                Some(route) => route.join(name, index, source),
                None => Route::new(name, index, source).map(|route| routes.entry(key).or_insert(route)),
            };
            match joined {
                Ok(route) => route.look_at(live, source),
                Err(problem) => problems.push((name.clone(), problem)),
            }
        }
    }
    (routes, problems)
}

impl Route {
    fn new(name: &str, index: usize, source: &WebhookSource) -> Result<Self, String> {
        let scheme = Scheme::named(&source.scheme, &source.options).map_err(|error| error.to_string())?;
        Ok(Self {
            secrets: Vec::new(),
            secrets_from: Vec::new(),
            published: Vec::new(),
            missing_secrets: Vec::new(),
            members: BTreeMap::from([(name.to_owned(), vec![index])]),
            max_body: source.max_body,
            sender_sees: source.sender_sees,
            response: None,
            observe_until: source.observe_until,
            secret_headers: scheme.secret_headers(),
            secret_parameters: scheme.secret_parameters(),
            wanted: Wanted::default(),
            scheme,
            agreed: Agreed::of(source),
        })
    }

    fn join(&mut self, name: &str, index: usize, source: &WebhookSource) -> Result<&mut Self, String> {
        if self.agreed != Agreed::of(source) {
            let other = self.members.keys().next().map_or("another trigger", String::as_str);
            return Err(format!(
                "its path {:?} belongs to {other}, whose scheme, options, secret or allow_from differ: triggers \
                 that share a path share all of them",
                source.path
            ));
        }
        self.members.entry(name.to_owned()).or_default().push(index);
        self.max_body = self.max_body.max(source.max_body);
        self.sender_sees = self.sender_sees.min(source.sender_sees);
        // Nothing is before any time.
        self.observe_until = self.observe_until.min(source.observe_until);
        Ok(self)
    }

    fn look_at(&mut self, live: &Live, source: &WebhookSource) {
        if let (None, Some(response)) = (&self.response, &source.response) {
            self.wanted.merge(&wanted_by(std::iter::once(&response.body)));
            self.response = Some(response.clone());
        }
        self.wanted.merge(&wanted(&live.job));
        if let Some(body) = source.when.as_ref().and_then(|when| when.wants("body")) {
            self.wanted.merge(body);
        }
    }

    /// Whether a handshake may set the secret: its scheme has such a one, and the one file that shall hold the
    /// secret is not there.
    pub(crate) fn waiting(&self) -> Waiting {
        let waits = self.scheme.sets_secret() && self.secrets.is_empty() && self.secret_file().is_some();
        if waits { Waiting::ForSecret } else { Waiting::No }
    }

    /// Whether there are keys that nobody has to keep.
    pub(crate) fn finds_keys(&self) -> bool {
        !self.published.is_empty() || self.agreed.secrets.is_empty() && self.scheme.finds_keys()
    }

    /// Whether this secret is one of those that count.
    pub(crate) fn uses(&self, secret: &str) -> bool {
        let published =
            secret.strip_prefix("url ").is_some_and(|url| self.published.iter().any(|one| one == url));
        published || self.secrets_from.iter().any(|one| one == secret)
    }

    /// Whether this address may send at all.
    pub(crate) fn lets_in(&self, sender: IpAddr) -> bool {
        let allowed = &self.agreed.allow_from;
        allowed.is_empty() || allowed.iter().any(|network| network.contains(sender))
    }

    /// Whether what is not authentic is taken and recorded now.
    pub(crate) fn observes(&self, now: Timestamp) -> bool {
        self.observe_until.is_some_and(|until| now < until)
    }

    fn secret_file(&self) -> Option<&str> {
        match self.agreed.secrets.as_slice() {
            [SecretRef::File(path)] => Some(path),
            _ => None,
        }
    }

    /// Writes a secret that came with a handshake into its file, which must not be there: whoever comes second,
    /// even in the same instant, changes nothing.
    pub(crate) async fn keep_secret(&self, secret: Vec<u8>) -> Result<(), String> {
        let path = self.secret_file().ok_or("the trigger's secret is not one file")?.to_owned();
        let written = tokio::task::spawn_blocking(move || secrets::create(&path, &secret)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// Every member with every secret that could not be resolved.
    pub(super) fn member_problems(&self) -> impl Iterator<Item = (String, String)> {
        self.members
            .keys()
            .flat_map(|key| self.missing_secrets.iter().map(|problem| (key.clone(), problem.clone())))
    }

    /// Reads files: not for an async thread.
    pub(super) fn resolve(&mut self, vault: &Vault) {
        for reference in &self.agreed.secrets {
            if let SecretRef::Url(url) = reference {
                self.published.push(url.clone());
                continue;
            }
            let usable =
                vault.resolve(reference).and_then(|secret| match self.scheme.check_secret(&secret) {
                    Ok(()) => Ok(secret),
                    Err(why) => Err(SecretError::unusable(reference, why)),
                });
            match usable {
                Ok(secret) => {
                    self.secrets.push(secret);
                    self.secrets_from.push(secrets::describe(reference));
                }
                Err(error) => self.missing_secrets.push(error.to_string()),
            }
        }
    }
}

impl Agreed {
    fn of(source: &WebhookSource) -> Self {
        Self {
            scheme: source.scheme.clone(),
            options: source.options.clone(),
            secrets: source.secrets.clone(),
            allow_from: source.allow_from.clone(),
        }
    }
}
