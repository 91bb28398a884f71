//! The migrations of both dialects, compiled in. Each dialect applies them at open, in order, in one transaction
//! that holds the write lock, and refuses a database that is newer than this program.

use crate::StoreError;

/// One file of `migrations/`. Files of the same number have the same name in both folders.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: i64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

pub(crate) const SQLITE: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    sql: include_str!("../../../migrations/sqlite/0001_initial.sql"),
}];

pub(crate) const POSTGRES: &[Migration] = &[Migration {
    version: 1,
    name: "initial",
    sql: include_str!("../../../migrations/postgres/0001_initial.sql"),
}];

/// The migrations that a database at version `current` lacks (0: an empty one).
pub(crate) fn pending(all: &'static [Migration], current: i64) -> Result<&'static [Migration], StoreError> {
    let newest = all.last().map_or(0, |migration| migration.version);
    if current > newest {
        return Err(StoreError::Unfit(format!(
            "the database has schema version {current}, this hetuflow knows versions up to {newest}: \
             it was used by a newer hetuflow; start that version, or restore a backup from before the upgrade"
        )));
    }
    let first = all.iter().position(|migration| migration.version > current).unwrap_or(all.len());
    Ok(&all[first..])
}

#[cfg(test)]
mod tests {
    use hetuflow_core::status::Status;

    use super::*;

    #[test]
    fn versions_count_from_one() {
        for (n, (here, twin)) in SQLITE.iter().zip(POSTGRES).enumerate() {
            assert_eq!(here.version, i64::try_from(n + 1).expect("few migrations"), "{}", here.name);
            assert_eq!((here.version, here.name), (twin.version, twin.name));
        }
        assert_eq!(SQLITE.len(), POSTGRES.len());
    }

    #[test]
    fn a_newer_database_is_refused() {
        assert_eq!(pending(SQLITE, 0).expect("an empty database").len(), SQLITE.len());
        assert!(pending(SQLITE, i64::MAX).expect_err("too new").to_string().contains("newer hetuflow"));
    }

    #[test]
    fn status_checks_are_the_statuses_of_core() {
        let list = |leased: bool| -> String {
            let of = Status::ALL.iter().filter(|status| status.is_leased() == leased);
            of.map(|status| status.number().to_string()).collect::<Vec<_>>().join(", ")
        };
        for migration in [&SQLITE[0], &POSTGRES[0]] {
            for text in [
                format!("check (case when status in ({})\n", list(true)),
                format!("else status in ({}) and instance_id is null", list(false)),
            ] {
                assert!(migration.sql.contains(&text), "no {text:?} in {}", migration.name);
            }
        }
    }

    /// The claim's partial indexes hold `status in (1, 2)`, the lease's `status in (5, 8, 10)`.
    #[test]
    fn literal_statuses_mean_what_they_say() {
        let numbers = |wanted: fn(Status) -> bool| -> Vec<i16> {
            Status::ALL.into_iter().filter(|status| wanted(*status)).map(Status::number).collect()
        };
        assert_eq!(numbers(Status::is_waiting), [1, 2]);
        assert_eq!(numbers(Status::is_leased), [5, 8, 10]);
    }
}
