//! A value that becomes an argument, and must not become an option: most programs have one that runs a command
//! (`git fetch --upload-pack=..`, `tar --to-command=..`) or names a file to write.

use crate::{job::JobSpec, template::Template, trigger::starts_another};

/// Characters of the value in the reason.
const SHOWN: usize = 40;

/// The reason why what the argument has become is not handed to the program.
pub(super) fn check(job: &JobSpec, n: usize, template: &Template, text: &str) -> Result<(), String> {
    if !text.starts_with('-') || is_number(text) || !template.begins_with_a_value() || is_operand(job, n) {
        return Ok(());
    }
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("..");
    }
    Err(format!(
        "args[{n}]: the value begins with {shown:?}, and the program could take it for an option; put \"--\" before it in \
         args, fix the text before its {{{{, or hand it over by a variable of environment"
    ))
}

/// After `--` come operands. What starts another program may have taken the `--` for itself, unless nothing but values
/// stands after it.
fn is_operand(job: &JobSpec, n: usize) -> bool {
    let before = &job.args[..n];
    let Some(last) = before.iter().rposition(|arg| arg == "--") else { return false };
    !starts_another(&job.cmd) || before[last + 1..].iter().all(|arg| arg.starts_with("{{"))
}

/// `-5`, `-0.3`
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.strip_prefix('-').unwrap_or(text);
    match number.split_once('.') {
        Some((whole, part)) => digits(whole) && digits(part),
        None => digits(number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Body, Facts, plan::command, tests::event};
    use crate::job::JobSpec;

    fn filled(cmd: &str, args: &[&str], value: &str) -> Result<Vec<String>, String> {
        let mut job = JobSpec::running(cmd);
        job.args = args.iter().map(|&arg| arg.to_owned()).collect();
        let (event, body) = (event(), Body::Json(json!({"ref": value, "none": ""})));
        command(&job, &Facts { event: &event, body: &body, file: None }).map(|command| command.args)
    }

    #[test]
    fn a_value_does_not_become_an_option() {
        let check = |cmd: &str, args: &[&str], value: &str, refused: bool| {
            let filled = filled(cmd, args, value);
            assert_eq!(filled.is_err(), refused, "{cmd} {args:?} {value}: {filled:?}");
        };
        check("git", &["fetch", "origin", "{{ body.ref }}"], "--upload-pack=touch /tmp/x", true);
        check("tar", &["-xf", "{{ body.ref }}"], "--to-command=id", true);
        check("curl", &["{{ body.ref }}/x"], "-o/etc/x", true);
        check("rsync", &["{{ body.none }}{{ body.ref }}"], "-e id", true);
        check("rsync", &["{{ body.none }}-e", "x"], "", true);
        check("cat", &["{{ body.ref }}"], "-", true);
        check("echo", &["{{ body.ref }}"], "-5x", true);
        check("echo", &["{{ body.ref }}"], "-.", true);
        check("sleep", &["{{ body.ref }}"], "-5", false);
        check("sleep", &["{{ body.ref }}"], "-0.3", false);
        check("git", &["fetch", "origin", "{{ body.ref }}"], "main", false);
        check("git", &["fetch", "origin", "refs/heads/{{ body.ref }}"], "--upload-pack=id", false);
        check("git", &["log", "--author={{ body.ref }}"], "-x", false);
        check("git", &["fetch", "--", "origin", "{{ body.ref }}"], "--upload-pack=id", false);
        check("echo", &["{{ '-' }}{{ body.ref }}"], "n", false);
        check("kubectl", &["exec", "app", "--", "git", "fetch", "{{ body.ref }}"], "--upload-pack=id", true);
        check("sudo", &["git", "fetch", "--", "{{ body.ref }}"], "--upload-pack=id", false);
    }

    #[test]
    fn the_reason_says_what_to_do() {
        let reason = filled("git", &["fetch", "{{ body.ref }}"], &"-\"ä".repeat(1000)).expect_err("refused");
        assert!(reason.starts_with("args[1]: the value begins with \"-\\\"ä"), "{reason}");
        assert!(reason.contains("put \"--\" before it"), "{reason}");
        assert!(reason.len() < 400, "{reason}");
    }
}
