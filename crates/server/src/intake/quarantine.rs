//! Events that break whoever judges them, however often they come: after three tries the next one like them is stored with
//! that verdict and not tried again. A change of any trigger gives all of them another chance, for it may be the mend.
//!
//! In memory, and of this process: what breaks a judgement panics, and is stored each time, or takes its time, and is stored
//! the third time. It costs nothing until the first has broken.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use hetuflow_core::event::Event;
use sha2::{Digest, Sha256};

const TRIES: u32 = 3;
/// Kinds of events that are counted apart. A sender that can sign, and means harm, may have all forgotten: each then has
/// three more tries, and each of those is bounded.
const MAX_KINDS: usize = 1024;

/// How often events like this one have broken their judgement. What differs from delivery to delivery, such as its id and
/// its headers, is not part of what they are like.
type Kind = [u8; 32];

#[derive(Debug, Clone, Default)]
pub(super) struct Quarantine(Arc<Mutex<HashMap<Kind, u32>>>);

impl Quarantine {
    /// Whether it has had all its tries, under the triggers of this generation.
    pub(super) fn holds(&self, event: &Event, generation: i64) -> bool {
        let broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !broken.is_empty() && broken.get(&kind(event, generation)).is_some_and(|tries| *tries >= TRIES)
    }

    /// It broke. The answer is whether that was its last try.
    pub(super) fn note(&self, event: &Event, generation: i64) -> bool {
        let kind = kind(event, generation);
        let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.len() >= MAX_KINDS && !broken.contains_key(&kind) {
            broken.clear();
        }
        let tries = broken.entry(kind).or_default();
        *tries += 1;
        *tries >= TRIES
    }

    /// It was judged: what had no time for it before says nothing of the next one.
    pub(super) fn forget(&self, event: &Event, generation: i64) {
        let mut broken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !broken.is_empty() {
            broken.remove(&kind(event, generation));
        }
    }
}

fn kind(event: &Event, generation: i64) -> Kind {
    let texts = [
        event.namespace.as_str(),
        &event.source,
        &event.event_type,
        event.content_type.as_deref().unwrap_or_default(),
        event.query.as_deref().unwrap_or_default(),
    ];
    let mut digest = Sha256::new();
    digest.update(generation.to_le_bytes());
    for text in texts {
        digest.update(text.len().to_le_bytes());
        digest.update(text);
    }
    digest.update(&event.body);
    digest.finalize().into()
}
