//! The final state, as the product tells it through its API after everything has settled. Saved beside the
//! histories, so that the checker needs nothing else.

use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::history::Nanos;

/// What a page of the API holds at most.
const PAGE: usize = 500;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) events: Vec<EventRow>,
    pub(crate) tasks: Vec<TaskRow>,
    /// When everything else had settled, and daemons were about to be asked to end.
    #[serde(default)]
    pub(crate) daemons_until: Option<Nanos>,
    /// Processes that carry a marker of this run though nothing runs any more.
    pub(crate) orphans: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EventRow {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) source: String,
    #[serde(rename = "type", default)]
    pub(crate) event_type: String,
    #[serde(default)]
    pub(crate) headers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) subject: Option<String>,
    pub(crate) time: jiff::Timestamp,
    pub(crate) received_at: jiff::Timestamp,
    pub(crate) verdict: Verdict,
    pub(crate) decisions: Vec<Decision>,
}

impl EventRow {
    /// Where the file was found that it tells of: elsewhere than it is, if it was claimed.
    pub(crate) fn file(&self) -> String {
        let path = self.subject.as_deref().unwrap_or_default();
        let claimed = path.split_once("/.hetuflow/claimed/");
        let found = claimed.and_then(|(start, below)| Some(format!("{start}/{}", below.split_once('/')?.1)));
        found.unwrap_or_else(|| path.to_owned())
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Verdict {
    pub(crate) verdict: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Decision {
    pub(crate) trigger: String,
    pub(crate) outcome: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    pub(crate) trigger: String,
    pub(crate) event_id: String,
    pub(crate) status: String,
    pub(crate) attempt: u32,
    #[serde(default)]
    pub(crate) outcome: Option<Outcome>,
    /// Only of tasks whose first attempt was not their last, or did not succeed.
    #[serde(default)]
    pub(crate) instances: Vec<InstanceRow>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InstanceRow {
    pub(crate) id: String,
    pub(crate) agent_id: String,
    pub(crate) attempt: u32,
    pub(crate) status: String,
    pub(crate) created_at: jiff::Timestamp,
    #[serde(default)]
    pub(crate) finished_at: Option<jiff::Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) reason: String,
    #[serde(default)]
    pub(crate) exit_code: Option<i64>,
    /// Of a lost attempt: no process of it is left.
    #[serde(default)]
    pub(crate) gone: bool,
    #[serde(default)]
    pub(crate) message: Option<String>,
}

pub(crate) const UNSETTLED: &str = "pending,waiting_retry,locked,dispatched,running";

impl TaskRow {
    pub(crate) fn is_settled(&self) -> bool {
        !UNSETTLED.split(',').any(|status| status == self.status)
    }

    /// How this attempt ended; of a task that succeeded at once nothing more is known.
    pub(crate) fn status_of(&self, instance: &str) -> Option<&str> {
        let known = self.instances.iter().find(|one| one.id == instance).map(|one| one.status.as_str());
        known.or_else(|| self.is_plain().then_some(self.status.as_str()))
    }

    fn is_plain(&self) -> bool {
        self.status == "succeeded" && self.attempt == 1
    }
}

impl EventRow {
    /// The task whose end it is.
    pub(crate) fn ended_task(&self) -> Option<&str> {
        let named = |(name, _): &&(String, String)| name == "hetuflow-task";
        self.headers.iter().find(named).map(|(_, value)| value.as_str())
    }

    pub(crate) fn matched(&self) -> impl Iterator<Item = &str> {
        self.decisions.iter().filter(|decision| decision.outcome == "matched").map(|d| d.trigger.as_str())
    }
}

pub(crate) fn nanos(time: jiff::Timestamp) -> Nanos {
    Nanos::try_from(time.as_nanosecond()).unwrap_or_default()
}

/// One server's API.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) http: reqwest::Client,
    pub(crate) base: String,
}

impl Api {
    pub(crate) fn new(http: &reqwest::Client, address: std::net::SocketAddr) -> Self {
        Self { http: http.clone(), base: format!("http://{address}/api/v1") }
    }

    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let response = self.http.get(format!("{}/{path}", self.base)).send().await?;
        let status = response.status();
        let text = response.text().await?;
        if !status.is_success() {
            bail!("{path}: {status}: {text}");
        }
        serde_json::from_str(&text).with_context(|| format!("{path}: {text:?}"))
    }

    /// Declares a trigger; safe to repeat.
    pub(crate) async fn apply(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let body = serde_json::json!({ "origin": format!("{name}.toml"), "name": name, "text": text });
        let request = self.http.post(format!("{}/triggers/apply", self.base)).json(&body);
        let response = request.send().await?;
        let status = response.status();
        if !status.is_success() {
            bail!("trigger {name}: {status}: {}", response.text().await?);
        }
        Ok(())
    }

    pub(crate) async fn remove(&self, trigger: &str) -> anyhow::Result<()> {
        let request = self.http.delete(format!("{}/triggers/{trigger}", self.base));
        let status = request.send().await?.status();
        if !status.is_success() && status != reqwest::StatusCode::NOT_FOUND {
            bail!("trigger {trigger} cannot be removed: {status}");
        }
        Ok(())
    }

    pub(crate) async fn count_unsettled(&self) -> anyhow::Result<usize> {
        Ok(self.unsettled().await?.len())
    }

    /// Tasks that have not ended, without their attempts.
    pub(crate) async fn unsettled(&self) -> anyhow::Result<Vec<TaskRow>> {
        let list = self.get(&format!("tasks?limit={PAGE}&status={UNSETTLED}")).await?;
        Ok(serde_json::from_value(list["items"].clone())?)
    }

    /// Whether nobody knows what became of the daemon's last run.
    pub(crate) async fn is_held(&self, trigger: &str) -> anyhow::Result<bool> {
        let list = self.get(&format!("schedules?trigger={trigger}")).await?;
        Ok(list["items"][0]["daemon"]["state"] == "held")
    }

    /// Tasks of a list, with their attempts.
    pub(crate) async fn tasks(&self, filter: &str) -> anyhow::Result<Vec<TaskRow>> {
        let list = self.get(&format!("tasks?limit={PAGE}&{filter}")).await?;
        let listed: Vec<TaskRow> = serde_json::from_value(list["items"].clone())?;
        let mut tasks = Vec::with_capacity(listed.len());
        for task in listed {
            tasks.push(self.task(&task.id).await?);
        }
        Ok(tasks)
    }

    /// One task, with its attempts.
    pub(crate) async fn task(&self, id: &str) -> anyhow::Result<TaskRow> {
        Ok(serde_json::from_value(self.get(&format!("tasks/{id}")).await?)?)
    }

    pub(crate) async fn count_events(&self, kind: &str) -> anyhow::Result<usize> {
        Ok(self.all::<EventRow>("events", &format!("&kind={kind}")).await?.len())
    }

    /// Tasks whose end was not told, while none runs any more.
    pub(crate) async fn count_untold(&self) -> anyhow::Result<usize> {
        let tasks = self.all::<TaskRow>("tasks", "").await?.len();
        Ok(tasks.saturating_sub(self.count_events("internal").await?))
    }

    pub(crate) async fn state(&self) -> anyhow::Result<State> {
        let events = self.all("events", "").await?;
        let mut tasks: Vec<TaskRow> = self.all("tasks", "").await?;
        for task in tasks.iter_mut().filter(|task| !task.is_plain()) {
            *task = self.task(&task.id).await?;
        }
        Ok(State { events, tasks, ..State::default() })
    }

    async fn all<T: DeserializeOwned>(&self, list: &str, filter: &str) -> anyhow::Result<Vec<T>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{list}?limit={PAGE}{filter}{cursor}")).await?;
            let items: Vec<T> = serde_json::from_value(page["items"].clone())
                .with_context(|| format!("{list}: not the form that is expected"))?;
            all.extend(items);
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }
}

impl State {
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, serde_json::to_vec(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
}
