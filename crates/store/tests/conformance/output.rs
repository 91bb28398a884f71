//! Promises about stored output.

use bytes::Bytes;
use hetuflow_core::{
    id::InstanceId,
    task::{OutputChunk, Stream},
};

use crate::{
    database::Db,
    world::{at, claimed},
};

fn chunk(instance_id: InstanceId, seq: u64, data: &'static [u8]) -> OutputChunk {
    let stream = if seq.is_multiple_of(2) { Stream::Stdout } else { Stream::Stderr };
    OutputChunk { instance_id, seq, stream, data: Bytes::from_static(data) }
}

pub(crate) async fn output_reads_back_in_order(db: &Db) {
    let id = claimed(&*db.store, |_| ()).await.lease.instance_id;
    let pieces = [chunk(id, 0, b"a\n\0\xff"), chunk(id, 1, b""), chunk(id, 2, b"c"), chunk(id, 3, b"d")];
    db.store.append_output(&[pieces[3].clone(), pieces[1].clone()]).await.expect("stored");
    db.store.append_output(&[pieces[0].clone(), pieces[2].clone()]).await.expect("stored");
    assert_eq!(db.store.output(id, 0, 100).await.expect("output"), pieces);
    assert_eq!(db.store.output(id, 1, 2).await.expect("output"), pieces[1..3]);
    assert_eq!(db.store.output(id, 4, 2).await.expect("output"), []);
}

pub(crate) async fn a_piece_is_stored_once(db: &Db) {
    let id = claimed(&*db.store, |_| ()).await.lease.instance_id;
    db.store.append_output(&[chunk(id, 0, b"first"), chunk(id, 0, b"same batch")]).await.expect("stored");
    db.store.append_output(&[chunk(id, 0, b"second"), chunk(id, 1, b"next")]).await.expect("stored");
    let stored = db.store.output(id, 0, 100).await.expect("output");
    assert_eq!(stored, [chunk(id, 0, b"first"), chunk(id, 1, b"next")]);
}

pub(crate) async fn output_of_an_attempt_goes_with_it(db: &Db) {
    let known = claimed(&*db.store, |_| ()).await.lease;
    let pieces = [chunk(known.instance_id, 0, b"kept")];
    db.store.append_output(&pieces).await.expect("stored before anything was heard of the attempt");
    assert_eq!(db.store.output(known.instance_id, 0, 100).await.expect("output"), pieces);
    db.store.give_back(known, at(2)).await.expect("given back");
    assert_eq!(db.store.output(known.instance_id, 0, 100).await.expect("output"), []);
}
