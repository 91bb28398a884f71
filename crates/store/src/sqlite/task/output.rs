//! The output of attempts, piece by piece.

use hetuflow_core::{id::InstanceId, task::OutputChunk};

use super::Sqlite;
use crate::{StoreError, row};

pub(super) async fn append(db: &Sqlite, chunks: &[OutputChunk]) -> Result<(), StoreError> {
    let mut tx = db.begin().await?;
    for chunk in chunks {
        sqlx::query(
            "insert into sched_task_output (instance_id, created_at, seq, stream, data) \
             select id, created_at, ?, ?, ? from sched_task_instance where id = ? \
             on conflict (instance_id, seq) do nothing",
        )
        .bind(row::signed(chunk.seq))
        .bind(row::stream_name(chunk.stream))
        .bind(chunk.data.as_ref())
        .bind(chunk.instance_id.uuid())
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

pub(super) async fn read(
    db: &Sqlite,
    instance_id: InstanceId,
    from_seq: u64,
    limit: u32,
) -> Result<Vec<OutputChunk>, StoreError> {
    let rows = sqlx::query(
        "select * from sched_task_output where instance_id = ? and seq >= ? order by seq limit ?",
    )
    .bind(instance_id.uuid())
    .bind(row::signed(from_seq))
    .bind(i64::from(limit))
    .fetch_all(&db.readers)
    .await?;
    rows.iter().map(row::output).collect()
}
