//! Promises of the claim.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use hetuflow_core::{id::TaskId, labels::Lane, status::Status};
use hetuflow_store::{Claimed, Ingest, LowWater, Slot, WaitingLane};

use crate::{
    database::Db,
    world::{Visitor, agent_id, at, claim, ingest, instance, lane_of, lanes, slot, stored, take_in, task},
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
    assert_eq!(lanes(store, at(59)).await, []);
    let lane = lanes(store, at(60)).await.remove(0);
    assert_eq!(store.claim(lane.id, LowWater::START, &slots, at(59)).await.expect("a claim"), []);
    assert_eq!(store.claim(lane.id, LowWater::START, &slots, at(60)).await.expect("a claim").len(), 1);
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
    let waiting = lanes(store, at(0)).await;
    assert_eq!(waiting.len(), 3);
    for WaitingLane { id, lane, .. } in waiting {
        assert!(wanted.contains(&lane), "{lane:?}");
        let claimed = store.claim(id, LowWater::START, &vec![slot.clone(); 9], at(1)).await.expect("a claim");
        assert_eq!(claimed.len(), 2);
        assert!(claimed.iter().all(|claimed| claimed.task.lane == lane));
    }
    assert_eq!(lanes(store, at(1)).await, []);
}

pub(crate) async fn lanes_say_when_their_first_task_is_due(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    assert_eq!(store.waiting_lanes(&[]).await.expect("lanes"), []);
    for seconds in [90, 60] {
        stored(store, at(0), |task| task.run_at = at(seconds)).await;
    }
    stored(store, at(0), |task| (task.run_at, task.lane) = (at(120), lane_of("db"))).await;
    stored(store, at(0), |task| (task.run_at, task.priority) = (at(150), 3)).await;
    let check = async |expected: &[(i16, Lane, i64)]| {
        let lanes = store.waiting_lanes(&[]).await.expect("lanes");
        let seen: Vec<_> = lanes.into_iter().map(|lane| (lane.priority, lane.lane, lane.next_at)).collect();
        let expected: Vec<_> =
            expected.iter().map(|(priority, lane, next)| (*priority, lane.clone(), at(*next))).collect();
        assert_eq!(seen, expected);
    };
    let (any, db) = (Lane::default(), lane_of("db"));
    check(&[(3, any.clone(), 150), (0, any.clone(), 60), (0, db.clone(), 120)]).await;
    assert_eq!(claim(store, std::slice::from_ref(&slot), at(60)).await.len(), 1);
    check(&[(3, any.clone(), 150), (0, any.clone(), 90), (0, db.clone(), 120)]).await;
    assert_eq!(claim(store, &[slot], at(149)).await.len(), 2);
    check(&[(3, any, 150)]).await;
}

pub(crate) async fn a_look_from_a_place_does_not_see_what_is_before(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let first = stored(store, at(10), |_| ()).await;
    let second = stored(store, at(20), |_| ()).await;
    let lane = store.waiting_lanes(&[]).await.expect("lanes").remove(0).id;
    let from = LowWater::at(at(15));
    let seen = store.waiting_lanes(&[(lane, from)]).await.expect("lanes");
    assert_eq!(seen.iter().map(|lane| lane.next_at).collect::<Vec<_>>(), [at(20)]);
    let beyond = store.waiting_lanes(&[(lane, LowWater::at(at(21)))]).await.expect("lanes");
    assert_eq!(beyond, []);
    let slots = vec![slot; 2];
    assert_eq!(ids(&store.claim(lane, from, &slots, at(30)).await.expect("a claim")), [second]);
    assert_eq!(ids(&store.claim(lane, LowWater::START, &slots, at(30)).await.expect("a claim")), [first]);
}

pub(crate) async fn eight_claimers_take_each_task_once(db: &Db) {
    let store = &*db.store;
    let slot = slot(store, "web-1").await;
    let batch: Vec<Ingest> = (0..500).map(|_| ingest(at(0), |_| ())).collect();
    take_in(store, batch).await.expect("stored");
    let lane = lanes(store, at(0)).await.remove(0);
    let claimers = (0..8).map(|_| async {
        let mut taken = Vec::new();
        loop {
            let claimed =
                store.claim(lane.id, LowWater::START, &vec![slot.clone(); 7], at(1)).await.expect("a claim");
            if claimed.is_empty() && lanes(store, at(1)).await.is_empty() {
                return taken;
            }
            taken.extend(ids(&claimed));
        }
    });
    let taken: Vec<TaskId> = join_all(claimers).await.concat();
    assert_eq!(taken.len(), 500);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>().len(), 500);
}
