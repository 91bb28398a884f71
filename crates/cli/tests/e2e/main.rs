//! The whole product, as its users have it: real processes, real sockets, real files, both databases.
//! Each test reads as a story told by a [`world::World`].

mod bulk;
mod clock;
mod crash;
mod daemon;
mod doctor;
mod ends;
mod fate;
mod files;
mod files_in_order;
mod guide;
mod join;
mod journal;
mod link;
mod process;
mod reload;
mod restored;
mod servers;
mod split;
mod units;
mod webhook;
mod world;

/// Every test of a file on both databases: `on_both! { a_story, another_story }`.
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $story() {
                Box::pin(super::$story($crate::world::Database::Sqlite)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $story() {
                Box::pin(super::$story($crate::world::Database::Postgres)).await;
            })+
        }
    };
}
pub(crate) use on_both;
