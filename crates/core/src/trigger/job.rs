//! `[job]`: what a trigger runs.

mod retry;

use std::{collections::BTreeMap, time::Duration};

use super::{check, reader::Table, script, source::Sources, text::Text};
use crate::job::{JobSpec, ResourceLimits};

const MAX_RETRIES: i64 = 1000;
const MAX_OUTPUT: u64 = 100 * 1024 * 1024;

/// Arguments, or variables, of one job, at most.
const MAX_ENTRIES: usize = 1024;

const ADVICE: &str = "what it stands for would be run as code; pass it as a variable instead: \
                      environment = { VALUE = \"{{ .. }}\" } and \"$VALUE\" in the script";

/// Reads `[job]`; only with `[on.file]` there is a `file` for templates to look at.
pub(super) fn read_job(mut table: Table<'_>, sources: &Sources) -> JobSpec {
    let notices = sources.events.iter().any(|source| source.event_type.starts_with("file."));
    let has_file = notices || !sources.files.is_empty();
    let cmd = table.required("cmd", "the program to run: cmd = \"echo\"");
    if let Some(cmd) = &cmd {
        check::program(&table, cmd);
    }
    let args = table.texts("args").unwrap_or_default();
    let stdin = table.text("stdin");
    let templates = Templates { table: &table, has_file };
    templates.check_arguments(cmd.as_ref(), &args, stdin.as_ref());
    let environment = read_environment(&mut table, has_file);
    let working_dir = table.text("working_dir");
    if let Some(text) = &working_dir {
        Templates { table: &table, has_file }.check(text);
    }
    let user = table.text("user");
    if let Some(text) = &user {
        table.no_template(text, "user");
    }
    let defaults = JobSpec::running("");
    let job = JobSpec {
        cmd: cmd.map(|text| text.value).unwrap_or_default(),
        args: args.into_iter().map(|text| text.value).collect(),
        environment,
        working_dir: working_dir.map(|text| text.value),
        stdin: stdin.map(|text| text.value),
        user: user.map(|text| text.value),
        timeout: table.duration("timeout", Duration::from_millis(1)),
        max_retries: table
            .integer("max_retries", 0..=MAX_RETRIES)
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        retry_interval: table.duration("retry_interval", Duration::ZERO).unwrap_or(defaults.retry_interval),
        retry: retry::read_retry(&mut table),
        on_lost: retry::read_on_lost(&mut table),
        priority: table
            .integer("priority", i16::MIN.into()..=i16::MAX.into())
            .and_then(|n| n.try_into().ok())
            .unwrap_or(0),
        capture_output: table.flag("capture_output").unwrap_or(defaults.capture_output),
        max_output_size: table.size("max_output_size", 0..=MAX_OUTPUT).unwrap_or(defaults.max_output_size),
        resource_limits: read_limits(&mut table),
        labels: table.selector("labels"),
    };
    retry::check(&table, &job, sources);
    table.finish();
    job
}

fn read_environment(table: &mut Table<'_>, has_file: bool) -> BTreeMap<String, String> {
    let pairs = table.pairs("environment").unwrap_or_default();
    if pairs.len() > MAX_ENTRIES {
        table.problem_at("environment", format!("environment has {} variables", pairs.len()), at_most());
    }
    let templates = Templates { table, has_file };
    for (name, value) in &pairs {
        check::job_variable(table, name);
        if templates.check(value) && check::loads_code(&name.value) {
            let message = format!("a template does not work in {}", name.value);
            let help = "this variable decides what a program loads or runs; choose another one";
            table.problem(value.span.clone(), message, help);
        }
    }
    pairs.into_iter().map(|(name, value)| (name.value, value.value)).collect()
}

struct Templates<'a, 'd> {
    table: &'a Table<'d>,
    has_file: bool,
}

impl Templates<'_, '_> {
    /// Notes what is wrong with the text's templates; whether it has any that look something up.
    fn check(&self, text: &Text) -> bool {
        let Some(template) = check::template(self.table, text) else { return false };
        if !self.has_file && template.roots().any(|root| root == "file") {
            let help = "body, headers, query and event are there for every trigger";
            self.table.problem(
                text.span.clone(),
                "file is only there for [on.file] and for events file.*",
                help,
            );
        }
        !template.is_constant()
    }

    /// A template must not become part of a program's text.
    fn check_arguments(&self, cmd: Option<&Text>, args: &[Text], stdin: Option<&Text>) {
        if args.len() > MAX_ENTRIES {
            self.table.problem_at("args", format!("args has {} entries", args.len()), at_most());
        }
        let words: Vec<&str> = args.iter().map(|text| text.value.as_str()).collect();
        let code = cmd.map(|cmd| script::code_of(&cmd.value, &words)).unwrap_or_default();
        for (n, arg) in args.iter().enumerate() {
            if self.check(arg) && code.args.contains(&n) {
                self.refuse(arg, "a template inside a script argument is refused");
            }
        }
        if let Some(stdin) = stdin
            && self.check(stdin)
            && code.stdin
        {
            self.refuse(stdin, "a template inside a script on standard input is refused");
        }
    }

    fn refuse(&self, text: &Text, message: &str) {
        let span = text.value.find("{{").map_or_else(|| text.span.clone(), |at| text.place(at..at + 2));
        self.table.problem(span, message, ADVICE);
    }
}

fn at_most() -> String {
    format!("at most {MAX_ENTRIES}")
}

fn read_limits(job: &mut Table<'_>) -> Option<ResourceLimits> {
    let mut table = job.table("resource_limits")?;
    let mut whole = |key| table.integer(key, 1..=i64::MAX).and_then(|number| u64::try_from(number).ok());
    let limits = ResourceLimits {
        max_memory_mb: whole("max_memory_mb"),
        max_execution_time_secs: whole("max_execution_time_secs"),
        max_output_size_bytes: whole("max_output_size_bytes"),
        max_cpu_percent: table.decimal("max_cpu_percent"),
    };
    table.finish();
    Some(limits)
}
