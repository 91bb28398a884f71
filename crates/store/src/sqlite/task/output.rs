//! The output of attempts, piece by piece.

use hetuflow_core::{id::InstanceId, task::OutputChunk};

use super::Sqlite;
use crate::{
    StoreError, row,
    sqlite::batch::{Bound, MOST, Over, Script},
};

pub(in crate::sqlite) const APPEND: Over = Over {
    text: "insert or fail into sched_task_output (instance_id, created_at, seq, stream, data) \
           select * from {rows} where column1 is not null on conflict (instance_id, seq) do nothing",
    columns: 5,
};

pub(super) async fn append(db: &Sqlite, chunks: &[OutputChunk]) -> Result<(), StoreError> {
    let (first, later) = chunks.split_at(chunks.len().min(MOST));
    let script = Script::default().over(APPEND, first, piece);
    let (mut tx, _) = db.writer.turn().await?.begin(script).await?;
    for chunks in later.chunks(MOST) {
        APPEND.run(&mut tx, chunks, piece).await?;
    }
    tx.commit().await?;
    Ok(())
}

fn piece(bound: &mut Bound, chunk: &OutputChunk) {
    bound
        .bind(chunk.instance_id.uuid())
        .created_at(chunk.instance_id.uuid())
        .bind(row::signed(chunk.seq))
        .bind(row::stream_name(chunk.stream))
        .bind(chunk.data.as_ref());
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
