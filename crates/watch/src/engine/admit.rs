//! Takes over what shall be watched: which watches are new, changed or gone, and what of the memory of
//! an earlier revision still holds.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use hetuflow_core::{
    protocol::{Watch, WatchHealth, WatchState},
    trigger::{Claim, FileSource, Initial, Symlinks},
};

use super::Engine;
use crate::{
    claim::Claims,
    links,
    live::{Live, Memory, Sequences, counts_alike},
    patrol::Slotted,
    rule::{Rule, RuleError},
    state::{Definition, RootRecord, StoredWatch},
    turn::Remember,
};

/// A watch that is new or changed, to be stored and then put in force.
pub(crate) struct Admission {
    pub(crate) definition: Definition,
    pub(crate) roots: Vec<RootRecord>,
    /// Files of the earlier revision that this one does not cover.
    pub(crate) uncovered: Vec<Remember>,
    rule: Rule,
    prior: Option<Rule>,
}

/// What a new list changes.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) forget: Vec<String>,
    pub(crate) admit: Vec<Admission>,
    refuse: BTreeMap<String, WatchState>,
}

impl Engine {
    /// A watch that an earlier life of this process stored.
    pub(crate) fn resume(&mut self, stored: StoredWatch) {
        let StoredWatch { definition, roots, snapshot, batches, sequences } = stored;
        match self.compile(&definition.watch.key, &definition.watch.source) {
            Ok(rule) => {
                let prior = definition.prior.as_ref();
                let prior = prior.and_then(|source| self.compile(&definition.watch.key, source).ok());
                let slot = definition.slot.clone();
                let memory = (snapshot, batches, sequences);
                self.lives.insert(slot, Live::new(definition, rule, prior, roots, memory));
            }
            Err(error) => {
                self.refused.insert(definition.slot, refusal(&definition.watch, &error));
            }
        }
    }

    /// What has to be done so that exactly `wanted` is watched. Nothing is changed yet.
    pub(crate) fn plan(&self, wanted: &[Slotted]) -> Plan {
        let mut plan = Plan::default();
        for Slotted { slot, watch } in wanted.iter().cloned() {
            let known = self.lives.get(&slot).map(|live| &live.definition.watch);
            // A database that was restored may count a revision twice.
            if known == Some(&watch) {
                continue;
            }
            match self.admission(slot.clone(), watch.clone()) {
                Ok(admission) => plan.admit.push(admission),
                Err(error) => {
                    plan.refuse.insert(slot, refusal(&watch, &error));
                }
            }
        }
        let known = self.lives.keys().chain(self.refused.keys());
        plan.forget = known.filter(|slot| wanted.iter().all(|one| one.slot != **slot)).cloned().collect();
        plan
    }

    fn admission(&self, slot: String, watch: Watch) -> Result<Admission, RuleError> {
        let rule = self.compile(&watch.key, &watch.source)?;
        let old = self.lives.get(&slot);
        let same = old.filter(|live| same_files(&live.definition.watch.source, &watch.source));
        let known = |dir: &Path| self.since.of(&slot, &watch, dir, self.now());
        let roots = rule.roots().into_iter();
        let roots = roots.map(|dir| self.record(dir, same, old, &watch.source, known(dir))).collect();
        let prior = old.and_then(|live| prior_source(live, same.is_some()));
        let remembered = old.into_iter().flat_map(|live| live.snapshot().iter());
        // What is reached by links is only known once they are found: the pass forgets what is not.
        let may_reach = |path: &Path| watch.source.symlinks == Symlinks::Follow && !rule.bars(path);
        let uncovered = remembered.filter(|(path, _)| !rule.covers(path) && !may_reach(path));
        Ok(Admission {
            uncovered: uncovered.map(|(path, _)| Remember { path, version: None }).collect(),
            prior: prior.as_ref().and_then(|source| self.compile(&watch.key, source).ok()),
            definition: Definition { slot, watch, prior },
            roots,
            rule,
        })
    }

    fn now(&self) -> i64 {
        i64::try_from(self.options.clock.now().as_nanosecond()).unwrap_or(i64::MAX)
    }

    /// Where the globs changed, what they newly cover was there before: a new baseline. `known` is set where the watch is
    /// not new, but nothing is remembered of it.
    fn record(
        &self,
        dir: &Path,
        same: Option<&Live>,
        old: Option<&Live>,
        source: &FileSource,
        known: Option<i64>,
    ) -> RootRecord {
        let of = |live: &Live| live.records().find(|record| record.dir == dir).cloned();
        if let Some(record) = same.and_then(of) {
            return record;
        }
        let since = self.now();
        let done = source.initial == Initial::Process;
        match old.and_then(of) {
            // Its baseline is not done: what came since it was asked for is still new.
            Some(record) if !record.done => RootRecord { done, ..record },
            Some(record) => RootRecord { since, done, absent_device: None, ..record },
            None => RootRecord {
                dir: dir.to_owned(),
                since: known.unwrap_or(since),
                done,
                identity: None,
                absent_device: None,
            },
        }
    }

    /// Puts a stored admission in force.
    pub(crate) fn admit(&mut self, admission: Admission) {
        let Admission { definition, roots, uncovered, rule, prior } = admission;
        let (mut snapshot, mut batches, mut sequences) = Memory::default();
        let mut watched = HashSet::new();
        if let Some(old) = self.lives.remove(&definition.slot) {
            watched = old.watched().collect();
            let counts_on = counts_alike(&old.definition.watch.source, &definition.watch.source);
            (snapshot, batches, sequences) = old.into_memory();
            if !counts_on {
                sequences = Sequences::default();
            }
            for file in &uncovered {
                snapshot.remove(&file.path);
            }
        }
        let slot = definition.slot.clone();
        let memory = (snapshot, batches, sequences);
        self.lives.insert(slot, Live::new(definition, rule, prior, roots, memory));
        // The walk that follows adds again what the new revision needs.
        self.release(&watched);
    }

    pub(crate) fn forget(&mut self, slot: &str) {
        self.since.forget(slot);
        self.let_go(slot);
    }

    /// It is another patrol's now.
    pub(crate) fn let_go(&mut self, slot: &str) {
        self.refused.remove(slot);
        if let Some(live) = self.lives.remove(slot) {
            self.release(&live.watched().collect());
        }
    }

    /// Watches that the plan cannot set. What an earlier revision watched for goes on.
    pub(crate) fn refuse(&mut self, plan: &mut Plan) {
        self.refused = std::mem::take(&mut plan.refuse);
        for state in self.refused.values() {
            tracing::warn!(watch.key = state.key, problem = state.problem, "a watch was refused");
        }
    }

    fn compile(&self, key: &str, source: &FileSource) -> Result<Rule, RuleError> {
        let own = self.options.state.parent().unwrap_or(&self.options.state);
        let rule = Rule::compile(source, &self.options.base, own, &self.noise)?;
        check_roots(&rule, &self.options.roots)?;
        if source.symlinks != Symlinks::Ignore && !links::are_resolved() {
            return Err(RuleError(NO_LINKS.to_owned()));
        }
        Ok(match source.claim {
            Claim::None => rule,
            Claim::Rename => rule.claiming(Claims::new(key, &self.options.agent_id)),
        })
    }
}

const NO_LINKS: &str = "`symlinks` needs the system call openat2, which this system refuses (Linux has it since 5.6, and a sandbox may \
     forbid it): links cannot be gone through safely without it; allow it, or write symlinks = \"ignore\"";

/// The agent's own policy, whatever a server asks for.
fn check_roots(rule: &Rule, allowed: &[PathBuf]) -> Result<(), RuleError> {
    let inside = |root: &Path| allowed.is_empty() || allowed.iter().any(|allowed| root.starts_with(allowed));
    match rule.roots().into_iter().find(|root| !inside(root)) {
        Some(root) => Err(RuleError(format!(
            "`{}` is not in a directory that this agent may watch: [files] roots in agent.toml allows {}",
            root.display(),
            allowed.iter().map(|root| format!("`{}`", root.display())).collect::<Vec<_>>().join(", ")
        ))),
        None => Ok(()),
    }
}

fn same_files(one: &FileSource, two: &FileSource) -> bool {
    one.paths == two.paths
        && one.exclude == two.exclude
        && one.hidden == two.hidden
        && one.symlinks == two.symlinks
        && one.kinds == two.kinds
}

/// What was covered before the change, so that files which came, but were not complete yet, are not
/// taken for old.
fn prior_source(live: &Live, same: bool) -> Option<FileSource> {
    let definition = &live.definition;
    if same || live.records().any(|record| !record.done) {
        return definition.prior.clone();
    }
    Some(definition.watch.source.clone())
}

fn refusal(watch: &Watch, error: &RuleError) -> WatchState {
    WatchState {
        key: watch.key.clone(),
        revision: watch.revision,
        health: WatchHealth::Refused,
        problem: Some(error.to_string()),
        ..WatchState::default()
    }
}
