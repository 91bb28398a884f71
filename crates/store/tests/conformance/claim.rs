//! Promises of the claim.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hetuflow_core::{id::TaskId, labels::Lane, status::Status};
use hetuflow_store::{Claimed, Ingest, Slot, WaitingLane};

use crate::{
    database::Db,
    world::{Visitor, agent_id, at, claim, ingest, instance, lane_of, slot, stored, task},
};

fn ids(claimed: &[Claimed]) -> Vec<TaskId> {
    claimed.iter().map(|claimed| claimed.task.id).collect()
}

pub(crate) async fn a_claim_takes_by_priority_time_and_id(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let late = stored(store, at(0), |task| task.run_at = at(5)).await;
    let early = stored(store, at(1), |_| ()).await;
    let low = stored(store, at(0), |task| task.priority = -1).await;
    let urgent = stored(store, at(2), |task| task.priority = 7).await;
    let next = stored(store, at(3), |task| task.run_at = at(1)).await;
    let claimed = claim(store, &vec![slot; 9], at(10)).await;
    assert_eq!(ids(&claimed), [urgent, early, next, late, low]);
}

pub(crate) async fn a_claim_leases(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let id = stored(store, at(0), |_| ()).await;
    let claimed = claim(store, std::slice::from_ref(&slot), at(1)).await.remove(0);
    assert_eq!((claimed.lease.task_id, claimed.lease.fence), (id, 1));
    assert_eq!((&claimed.agent_id, claimed.session_epoch), (&slot.agent_id, slot.session_epoch));
    assert_eq!((claimed.task.attempt, claimed.task.command.is_some()), (1, true));
    assert_eq!(task(store, id).await, claimed.task);
    let instance = instance(store, claimed.lease).await;
    assert_eq!(
        (instance.task_id, instance.agent_id, instance.job_id),
        (id, slot.agent_id, claimed.task.job_id)
    );
    assert_eq!((instance.status, instance.attempt, instance.fence), (Status::Locked, 1, 1));
    assert_eq!((instance.created_at, instance.started_at, instance.outcome), (at(1), None, None));
}

pub(crate) async fn a_claim_takes_nothing_before_its_time(db: &Db) {
    let store = &*db.store;
    let slots = [slot(store, "web-1").await];
    stored(store, at(0), |task| task.run_at = at(60)).await;
    assert_eq!(store.waiting_lanes(at(59)).await.expect("lanes"), []);
    let lane = store.waiting_lanes(at(60)).await.expect("lanes").remove(0);
    assert_eq!(store.claim(lane.id, &slots, at(59)).await.expect("a claim"), []);
    assert_eq!(store.claim(lane.id, &slots, at(60)).await.expect("a claim").len(), 1);
}

pub(crate) async fn a_claim_fills_slots_in_order_and_no_more(db: &Db) {
    let store = &*db.store;
    let (one, two) = (slot(store, "one").await, slot(store, "two").await);
    for _ in 0..5 {
        stored(store, at(0), |_| ()).await;
    }
    let slots = [two.clone(), one.clone(), two.clone()];
    let claimed = claim(store, &slots, at(1)).await;
    let agents: Vec<_> = claimed.iter().map(|claimed| claimed.agent_id.as_str()).collect();
    assert_eq!(agents, ["two", "one", "two"]);
    assert_eq!(claim(store, &[], at(1)).await, []);
}

pub(crate) async fn a_slot_of_another_session_takes_nothing(db: &Db) {
    let store = &*db.store;
    let mut visitor = Visitor::new("web-1");
    let old = visitor.hello(store, &[]).await;
    let new = visitor.hello(store, &[]).await;
    let stranger = Slot { agent_id: agent_id("nobody"), session_epoch: 1 };
    let id = stored(store, at(0), |_| ()).await;
    let slots = [visitor.slot(&old), stranger, visitor.slot(&new), visitor.slot(&old)];
    let claimed = claim(store, &slots, at(1)).await;
    assert_eq!(ids(&claimed), [id]);
    assert_eq!(claimed[0].session_epoch, new.epoch);
}

pub(crate) async fn a_claim_stays_in_its_lane(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let here = Lane { agent: Some(agent_id("web-1")), ..lane_of("web") };
    let wanted = [lane_of("web"), lane_of("db"), here];
    for lane in &wanted {
        stored(store, at(0), |task| task.lane = lane.clone()).await;
        stored(store, at(0), |task| task.lane = lane.clone()).await;
    }
    let lanes = store.waiting_lanes(at(0)).await.expect("lanes");
    assert_eq!(lanes.len(), 3);
    for WaitingLane { id, lane } in lanes {
        assert!(wanted.contains(&lane), "{lane:?}");
        let claimed = store.claim(id, &vec![slot.clone(); 9], at(1)).await.expect("a claim");
        assert_eq!(claimed.len(), 2);
        assert!(claimed.iter().all(|claimed| claimed.task.lane == lane));
    }
    assert_eq!(store.waiting_lanes(at(1)).await.expect("lanes"), []);
}

pub(crate) async fn the_next_time_is_told(db: &Db) {
    let store = &*db.store;
    assert_eq!(store.next_run_at(at(0)).await.expect("a time"), None);
    for seconds in [0, 90, 60] {
        stored(store, at(0), |task| task.run_at = at(seconds)).await;
    }
    stored(store, at(0), |task| (task.run_at, task.lane) = (at(120), lane_of("db"))).await;
    let check = async |now, expected| assert_eq!(store.next_run_at(at(now)).await.expect("a time"), expected);
    check(0, Some(at(60))).await;
    check(60, Some(at(90))).await;
    check(90, Some(at(120))).await;
    check(120, None).await;
}

pub(crate) async fn eight_claimers_take_each_task_once(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let batch: Vec<Ingest> = (0..500).map(|_| ingest(at(0), |_| ())).collect();
    store.ingest(batch).await.expect("stored");
    let lane = store.waiting_lanes(at(0)).await.expect("lanes").remove(0);
    let claimers = (0..8).map(|_| async {
        let mut taken = Vec::new();
        loop {
            let claimed = store.claim(lane.id, &vec![slot.clone(); 7], at(1)).await.expect("a claim");
            if claimed.is_empty() && store.waiting_lanes(at(1)).await.expect("lanes").is_empty() {
                return taken;
            }
            taken.extend(ids(&claimed));
        }
    });
    let taken: Vec<TaskId> = join_all(claimers).await.concat();
    assert_eq!(taken.len(), 500);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 500);
}
