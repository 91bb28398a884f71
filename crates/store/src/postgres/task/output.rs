//! The output of attempts, piece by piece.

use std::collections::BTreeMap;

use hetuflow_core::{id::InstanceId, task::OutputChunk};
use uuid::Uuid;

use super::Postgres;
use crate::{StoreError, postgres::columns::at, row};

pub(super) async fn append(db: &Postgres, chunks: &[OutputChunk]) -> Result<(), StoreError> {
    // Sorted, so that two batches do not wait for each other's pieces.
    let sorted: BTreeMap<(InstanceId, u64), &OutputChunk> =
        chunks.iter().rev().map(|chunk| ((chunk.instance_id, chunk.seq), chunk)).collect();
    let ids: Vec<Uuid> = sorted.values().map(|chunk| chunk.instance_id.uuid()).collect();
    sqlx::query(
        "insert into sched_task_output (instance_id, created_at, seq, stream, data)
         select * from unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[], $5::bytea[])
         on conflict (instance_id, seq, created_at) do nothing",
    )
    .bind(&ids)
    .bind(ids.iter().map(|id| at(*id)).collect::<Vec<_>>())
    .bind(sorted.values().map(|chunk| row::signed(chunk.seq)).collect::<Vec<_>>())
    .bind(sorted.values().map(|chunk| row::stream_name(chunk.stream)).collect::<Vec<_>>())
    .bind(sorted.values().map(|chunk| chunk.data.as_ref()).collect::<Vec<_>>())
    .execute(&db.pool)
    .await?;
    Ok(())
}

pub(super) async fn read(
    db: &Postgres,
    instance_id: InstanceId,
    from_seq: u64,
    limit: u32,
) -> Result<Vec<OutputChunk>, StoreError> {
    let rows = sqlx::query(
        "select * from sched_task_output where instance_id = $1 and created_at = $2 and seq >= $3
         order by seq limit $4",
    )
    .bind(instance_id.uuid())
    .bind(at(instance_id.uuid()))
    .bind(row::signed(from_seq))
    .bind(i64::from(limit))
    .fetch_all(&db.pool)
    .await?;
    rows.iter().map(row::output).collect()
}
