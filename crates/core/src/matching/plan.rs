//! What a matched trigger plans: the job with its templates replaced, fixed from here on.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Facts, Wanted, argument};
use crate::{
    id::{AgentId, JobId, ScheduleId, TaskId},
    job::{Command, JobSpec},
    labels::Lane,
    retry::RetryPolicy,
    task::{NewTask, Telling},
    template::Template,
    trigger::{HookResponse, Trigger},
};

/// A command with its values, as JSON in bytes, at most: it must fit into one message to an agent.
const MAX_COMMAND: usize = 512 * 1024;

/// What a matched trigger plans: identity and place come from the caller, the command from the job
/// with its templates replaced. A template that finds no value makes a task with an `Err` command.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    pub trigger: &'a Trigger,
    pub job_id: JobId,
    pub job: &'a JobSpec,
    pub schedule_id: Option<ScheduleId>,
    /// The agent that the task must run on, for a file that only it can see.
    pub agent: Option<&'a AgentId>,
    pub task_id: TaskId,
    pub run_at: Timestamp,
    /// What is asked for of the ends of jobs.
    pub telling: Telling,
}

pub fn plan(plan: &Plan<'_>, facts: &Facts<'_>) -> NewTask {
    NewTask {
        id: plan.task_id,
        namespace: plan.trigger.namespace.clone(),
        trigger: plan.trigger.name.to_string(),
        job_id: plan.job_id,
        schedule_id: plan.schedule_id,
        event_id: facts.event.id,
        run_at: plan.run_at,
        priority: plan.job.priority,
        lane: Lane { selector: plan.job.labels.clone(), agent: plan.agent.cloned() },
        policy: RetryPolicy::of(plan.job),
        command: command(plan.job, facts),
        telling: plan.telling,
    }
}

/// What planning this job looks at in a body.
pub fn wanted(job: &JobSpec) -> Wanted {
    let optional = job.working_dir.iter().chain(&job.stdin);
    wanted_by(job.args.iter().chain(job.environment.values()).chain(optional))
}

/// What these templates look at in a body.
pub fn wanted_by<'a>(texts: impl Iterator<Item = &'a String>) -> Wanted {
    let mut wanted = Wanted::default();
    for text in texts {
        // One that does not compile is never filled.
        for path in
            Template::compile(text).iter().flat_map(Template::paths).filter(|path| path.root == "body")
        {
            wanted.add(path);
        }
    }
    wanted
}

pub(super) fn command(job: &JobSpec, facts: &Facts<'_>) -> Result<Command, String> {
    let mut args = Vec::with_capacity(job.args.len());
    for (n, arg) in job.args.iter().enumerate() {
        args.push(fill_argument(job, n, arg, facts)?);
    }
    let mut environment = BTreeMap::new();
    for (name, value) in &job.environment {
        environment.insert(name.clone(), fill(value, facts, || format!("environment.{name}"))?);
    }
    let optional = |text: &Option<String>, name: &str| {
        text.as_ref().map(|text| fill(text, facts, || name.to_owned())).transpose()
    };
    let command = Command {
        cmd: job.cmd.clone(),
        args,
        environment,
        working_dir: optional(&job.working_dir, "working_dir")?,
        stdin: optional(&job.stdin, "stdin")?,
        user: job.user.clone(),
        timeout: job.timeout,
        capture_output: job.capture_output,
        max_output_size: job.max_output_size,
        resource_limits: job.resource_limits.clone(),
    };
    let size = serde_json::to_vec(&command).map_err(|error| error.to_string())?.len();
    if size > MAX_COMMAND {
        return Err(format!(
            "the command with its values takes {size} bytes, at most {MAX_COMMAND} are possible"
        ));
    }
    Ok(command)
}

/// The body of an answer, with its templates replaced.
pub fn respond(response: &HookResponse, facts: &Facts<'_>) -> Result<String, String> {
    fill(&response.body, facts, || "response.body".to_owned())
}

fn fill_argument(job: &JobSpec, n: usize, arg: &str, facts: &Facts<'_>) -> Result<String, String> {
    let place = || format!("args[{n}]");
    let Some(template) = compile(arg, place)? else { return Ok(arg.to_owned()) };
    let text = render(&template, facts, place)?;
    argument::check(job, n, &template, &text)?;
    Ok(text)
}

fn fill(text: &str, facts: &Facts<'_>, place: impl Fn() -> String) -> Result<String, String> {
    match compile(text, &place)? {
        Some(template) => render(&template, facts, place),
        None => Ok(text.to_owned()),
    }
}

/// `None` of a text that stands for itself.
fn compile(text: &str, place: impl Fn() -> String) -> Result<Option<Template>, String> {
    if Template::is_plain(text) {
        return Ok(None);
    }
    Template::compile(text).map(Some).map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        format!("{}: {}", place(), errors.join("; "))
    })
}

fn render(template: &Template, facts: &Facts<'_>, place: impl Fn() -> String) -> Result<String, String> {
    template.render(facts).map_err(|error| format!("{}: {error}", place()))
}
