//! What handlers and loops share: built by hand in `run`, cloned cheaply.

use std::sync::Arc;

use hetuflow_core::{Clock, id::ServerId};
use hetuflow_store::Store;

use crate::{
    Config, dispatch::Dispatcher, hub::Hub, ingest::Ingester, intake::Judge, metrics::Metrics,
    results::Reporter, triggers::Triggers,
};

#[derive(Clone)]
pub struct AppState {
    pub config: Arc<Config>,
    pub store: Arc<dyn Store>,
    pub triggers: Triggers,
    pub(crate) dispatcher: Dispatcher,
    pub ingester: Ingester,
    pub reporter: Reporter,
    pub hub: Hub,
    pub clock: Clock,
    /// This start of this server.
    pub server_id: ServerId,
    pub metrics: Arc<Metrics>,
    /// One for all, so that its bound and its quarantine hold wherever events come from.
    pub(crate) judge: Judge,
}

impl std::fmt::Debug for AppState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppState").field("server_id", &self.server_id).finish_non_exhaustive()
    }
}
