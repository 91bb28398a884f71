//! Up to when everything is told, for who judges deadlines.

use jiff::Timestamp;

use crate::world::World;

async fn watermark(world: &World) -> Timestamp {
    world.state(|state| state.watermark.is_some()).await.watermark.expect("a watermark")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acknowledged_holds_the_watermark_back() {
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"0s\"\nhas_deadlines = true");
    world.write("in/sub/keep", "");
    world.start().await;
    let first = watermark(&world).await;
    world.write("in/a.csv", "1");
    let seen_at = world.events(1).await[0].seen_at;
    assert!(seen_at >= first);
    // The first watermark of another life is taken at once.
    world.stop().await;
    world.start().await;
    assert!(watermark(&world).await < seen_at, "it is not told");
    world.acknowledge().await;
    world.stop().await;
    world.start().await;
    assert!(watermark(&world).await > seen_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_not_there_holds_the_watermark_back() {
    let mut world = World::new("paths = [\"in/*.csv\"]\nsettle = \"0s\"\nhas_deadlines = true");
    world.start().await;
    world.state(|state| state.problem.is_some() && state.watermark.is_none()).await;
    world.write("in/a.csv", "1");
    world.events(1).await;
    world.acknowledge().await;
    watermark(&world).await;
}
