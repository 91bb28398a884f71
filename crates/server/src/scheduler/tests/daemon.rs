//! Daemons: started by the loop, followed by it, replaced by an edit.

use hetuflow_core::{id::TaskId, status::Status};
use hetuflow_store::{DaemonNow, DaemonState, Page, ScheduleFilter};

use super::{fired, tasks, tick};
use crate::{scheduler, scheduler::Daemons, world::World};

fn keeps(cmd: &str) -> String {
    format!("[on.daemon]\nbackoff = \"10s\"\n[job]\ncmd = {cmd:?}\n")
}

async fn daemon(world: &World) -> DaemonNow {
    let list = world.state.store.schedules(&ScheduleFilter::default(), Page::default()).await;
    list.expect("a list")[0].daemon.clone().expect("a daemon")
}

async fn cmd(world: &World, id: TaskId) -> String {
    world.state.store.task(id).await.expect("the task").command.expect("a command").cmd
}

#[tokio::test]
async fn a_daemon_starts_with_its_trigger_and_once() {
    let mut world = World::start().await;
    world.trigger("consumer", &keeps("consume")).await;
    tick(&world).await;
    world.advance(3600);
    tick(&world).await;
    assert_eq!(fired(&world).await, ["21 10:00:00"]);
    let tasks = tasks(&world).await;
    assert_eq!(tasks.len(), 1);
    let policy = &tasks[0].policy;
    assert!(policy.daemon && policy.max_retries == 0, "{policy:?}");
    assert_eq!(daemon(&world).await.state, DaemonState::Starting);
    let looked = scheduler::tick(&world.state).await.expect("a tick");
    assert_eq!((looked.next, looked.daemons), (None, Daemons::Kept));
}

#[tokio::test]
async fn a_template_without_a_value_is_not_tried_again() {
    let mut world = World::start().await;
    let text = keeps("consume").replace("[job]", "[job]\nargs = [\"{{ body.name }}\"]");
    world.trigger("consumer", &text).await;
    tick(&world).await;
    tick(&world).await;
    let tasks = tasks(&world).await;
    assert_eq!((tasks.len(), tasks[0].status), (1, Status::Failed));
    assert_eq!(daemon(&world).await.state, DaemonState::Stopped);
    // With the next edit it is.
    world.trigger("consumer", &keeps("consume")).await;
    tick(&world).await;
    assert_eq!(daemon(&world).await.state, DaemonState::Starting);
}

#[tokio::test]
async fn an_edit_replaces_a_run_that_waits() {
    let mut world = World::start().await;
    world.trigger("consumer", &keeps("consume")).await;
    tick(&world).await;
    // Their ids say which is the newer one.
    world.advance(1);
    world.trigger("consumer", &keeps("devour")).await;
    tick(&world).await;
    let [second, first] = &tasks(&world).await[..] else { panic!("two runs") };
    assert_eq!((first.status, second.status), (Status::Cancelled, Status::Pending));
    assert_eq!(cmd(&world, second.id).await, "devour");
    world.remove_trigger("consumer").await;
    tick(&world).await;
    assert!(tasks(&world).await.iter().all(|task| task.status == Status::Cancelled));
    assert!(!world.state.store.has_daemons().await.expect("an answer"));
}

#[tokio::test]
async fn the_loop_hears_of_an_end_and_of_a_new_trigger() {
    let mut world = World::start().await;
    let running = tokio::spawn(scheduler::run(world.state.clone(), world.stop.clone()));
    let mut changes = world.state.store.task_changes();
    world.trigger("consumer", &keeps("consume")).await;
    while tasks(&world).await.is_empty() {
        changes.changed().await.expect("the store lives");
    }
    let run = tasks(&world).await.remove(0);
    world.state.store.cancel(run.id, world.now()).await.expect("cancelled");
    while daemon(&world).await.state != DaemonState::Stopped {
        changes.changed().await.expect("the store lives");
    }
    world.stop.cancel();
    running.await.expect("it ends");
}
