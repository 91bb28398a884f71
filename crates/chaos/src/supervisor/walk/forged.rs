//! C02 by failpoint: whatever a stranger sends, the server never comes to the point at which a body is parsed and triggers
//! are asked. It would die there; after the last forgery one delivery that is authentic shows that it does.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::StatusCode;

use crate::{
    generator::signature,
    jobs::hook_of,
    points::{Part, Point},
    supervisor::Site,
};

pub(super) const POINT: &str = "match.before";
const DIES_WITHIN: Duration = Duration::from_secs(6);
const BODIES: [&str; 4] = ["{\"n\":1}", "", "[[[[", "a=b&a=c"];
const TYPES: [&str; 3] =
    ["application/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"];

impl Site {
    pub(super) async fn forgeries_are_not_looked_into(&self) -> anyhow::Result<()> {
        let point = Point { name: POINT.to_owned(), part: Part::Server, ambiguous: false };
        self.restart(&point, Some(format!("{POINT}=kill@1"))).await?;
        let hooks = self.world.places.borrow()[0].as_ref().context("the server listens")?.hooks;
        let url = format!("http://{hooks}/hooks/{}", hook_of(0));
        for body in BODIES {
            let of_another = signature("another body");
            let wrong = [None, Some(""), Some("sha256="), Some(of_another.as_str()), Some("sha1=00")];
            for (content_type, signed) in TYPES.into_iter().flat_map(|one| wrong.map(|signed| (one, signed)))
            {
                let request = self.world.http.post(&url).header("Content-Type", content_type);
                let request = request.header("X-GitHub-Event", "push").header("X-GitHub-Delivery", "forged");
                let request = signed
                    .iter()
                    .fold(request, |request, signed| request.header("X-Hub-Signature-256", *signed));
                let status = request.body(body).send().await?.status();
                ensure!(status == StatusCode::UNAUTHORIZED, "{signed:?} over {body:?} is answered {status}");
            }
        }
        ensure!(self.node(&point).lock().await.ended()?.is_none(), "a forgery came as far as {POINT}");
        let authentic = self.world.http.post(&url).header("X-GitHub-Event", "push");
        let authentic = authentic.header("X-Hub-Signature-256", signature(BODIES[0])).body(BODIES[0]);
        ensure!(authentic.send().await.is_err(), "it answers although it dies");
        ensure!(self.dies(&point, DIES_WITHIN).await?, "what is authentic does not come to {POINT}");
        self.restart(&point, None).await?;
        eprintln!("no forgery came as far as {POINT}");
        Ok(())
    }
}
