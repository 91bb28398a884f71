//! The long form of a run, for a release: what it consists of, and the line that it comes to.

use crate::{
    args::{Databases, RunArgs},
    check::Verdict,
    history::{Fault, FaultKind},
    plan::Goals,
};

/// The long form: enough that no violation means something (3/n), at a load that leaves room for the faults.
const LONG: Goals = Goals {
    server_kills: 500,
    agent_kills: 500,
    postgres_restarts: 200,
    partitions: 50,
    freezes: 50,
    absences: 10,
};
const LONG_RATE: u32 = 40;

/// Both databases, as far as they were asked for.
pub(super) fn long(args: &RunArgs) -> Vec<RunArgs> {
    let part = |database, servers, goals: Goals| RunArgs {
        database,
        servers,
        long: false,
        rate: LONG_RATE,
        server_kills: goals.server_kills,
        agent_kills: goals.agent_kills,
        postgres_restarts: goals.postgres_restarts,
        partitions: goals.partitions,
        freezes: goals.freezes,
        absences: goals.absences,
        ..args.clone()
    };
    let sqlite = part(Databases::Sqlite, 1, Goals { postgres_restarts: 0, ..LONG });
    let both = vec![sqlite, part(Databases::Postgres, 2, LONG)];
    both.into_iter().filter(|one| args.database == Databases::Both || one.database == args.database).collect()
}

/// A line for the table of `docs/reliability`.
pub(super) fn summary(run: &str, faults: &[Fault], verdict: &Verdict) -> String {
    let of = |kind: FaultKind, target: &str| {
        faults.iter().filter(|fault| fault.kind == kind && fault.target.starts_with(target)).count()
    };
    let counts = &verdict.counts;
    format!(
        "| {run} | server {}, agents {}, PostgreSQL {} | freezes {}, partitions {}, absences {} | {} deliveries in {} \
         acknowledged and {} unknown tries, {} files, {} fires, {} tasks, {} processes, {} attempts lost, {} tasks held | \
         {} |",
        of(FaultKind::Kill, "server"),
        of(FaultKind::Kill, "agent"),
        of(FaultKind::Restart, "postgres"),
        of(FaultKind::Freeze, ""),
        of(FaultKind::Partition, ""),
        of(FaultKind::Absence, ""),
        counts.deliveries,
        counts.acknowledged,
        counts.unknown,
        counts.files,
        counts.fires,
        counts.tasks,
        counts.effects,
        counts.lost_attempts,
        counts.held,
        verdict.violations.len()
    )
}
