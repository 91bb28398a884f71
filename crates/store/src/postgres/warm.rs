//! Connections that the statements of a life take again and again, the last used first. The pool asks PostgreSQL whether a
//! connection still answers before it hands it out and once more when it comes back, and hands out the coldest first:
//! two messages and wake-ups more for each statement, which is nothing beside a page of a list and a third of the time
//! of a single event. A connection is a part of the pool meanwhile; whatever fails on it sends all of them back there.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection, PgPool, pool::PoolConnection};

/// One that has not been used for longer is asked before it is used: a restart of the database is found out by then.
const FRESH: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Warm {
    /// What stays out of the pool, at most.
    most: usize,
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    connections: Vec<(PoolConnection<sqlx::Postgres>, Instant)>,
    closed: bool,
}

/// A connection in use. One that is dropped goes back to the pool.
pub(super) struct Hot<'a> {
    connection: PoolConnection<sqlx::Postgres>,
    warm: &'a Warm,
}

impl Warm {
    /// Of a pool of that size, in which at least half is left for everything else.
    pub(super) fn of(size: u32) -> Self {
        Self { most: usize::try_from(size / 2).unwrap_or(usize::MAX), idle: Mutex::default() }
    }

    pub(super) async fn take(&self, pool: &PgPool) -> Result<Hot<'_>, sqlx::Error> {
        let idle = self.idle().connections.pop();
        let fresh = match idle {
            Some((connection, used)) if used.elapsed() < FRESH => Some(connection),
            Some((mut connection, _)) => connection.ping().await.is_ok().then_some(connection),
            None => None,
        };
        let connection = match fresh {
            Some(connection) => connection,
            None => pool.acquire().await?,
        };
        Ok(Hot { connection, warm: self })
    }

    /// Sends all of them back. Afterwards nothing is kept any more.
    pub(super) fn close(&self) {
        self.idle().closed = true;
        self.send_back();
    }

    fn send_back(&self) {
        let idle = std::mem::take(&mut self.idle().connections);
        drop(idle);
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hot<'_> {
    /// Passes on what the last statement yielded. After a failure nothing is kept: the others may have broken with it.
    pub(super) fn done<T, E>(self, done: Result<T, E>) -> Result<T, E> {
        let Self { connection, warm } = self;
        if done.is_err() {
            warm.send_back();
            return done;
        }
        let mut idle = warm.idle();
        if !idle.closed && idle.connections.len() < warm.most {
            idle.connections.push((connection, Instant::now()));
        }
        done
    }
}

impl Deref for Hot<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Hot<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
