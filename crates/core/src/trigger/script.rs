//! Which arguments of a command line are program text. A value from outside that becomes part of it
//! would be run, however it is quoted; so no template is allowed there. In doubt an argument counts
//! as program text: the way out, an environment variable, is always open.

mod interpreter;
mod powershell;
#[cfg(test)]
mod tests;

use std::ops::Range;

use interpreter::interpreter;

/// Where the program text of one command line is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// Indexes into `args`.
    pub(super) args: Vec<usize>,
    /// Standard input is read as program text.
    pub(super) stdin: bool,
}

impl Code {
    fn all(&mut self, args: Range<usize>) {
        self.args.extend(args);
        self.stdin = true;
    }
}

/// How an interpreter comes to its arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Started {
    /// It is the job's program.
    Itself,
    /// Another program starts it, perhaps: its name may be a user's, and an option the other's.
    ByAnother,
}

/// Programs that start the program named by one of their arguments.
const STARTERS: [&str; 46] = [
    "busybox",
    "cgexec",
    "chpst",
    "chroot",
    "chrt",
    "crictl",
    "doas",
    "docker",
    "dumb-init",
    "env",
    "fakeroot",
    "find",
    "flock",
    "gosu",
    "incus",
    "ionice",
    "kubectl",
    "ltrace",
    "lxc",
    "lxc-attach",
    "machinectl",
    "nerdctl",
    "nice",
    "nohup",
    "nsenter",
    "oc",
    "pkexec",
    "podman",
    "prlimit",
    "s6-setuidgid",
    "setpriv",
    "setsid",
    "setuidgid",
    "stdbuf",
    "strace",
    "su-exec",
    "sudo",
    "systemd-run",
    "taskset",
    "time",
    "timeout",
    "tini",
    "toybox",
    "unshare",
    "xargs",
    "xvfb-run",
];

/// Programs that hand their arguments to a shell, joined or not.
const SHELL_CALLERS: [&str; 9] = ["at", "eval", "parallel", "rsh", "runuser", "script", "ssh", "su", "watch"];

/// Words after which the options of a starter cannot name the program any more.
const NOT_A_PROGRAM: [&str; 6] = ["exec", "run", "-exec", "-execdir", "compose", "--"];

/// Whether a program starts the one that one of its arguments names.
pub(crate) fn starts_another(cmd: &str) -> bool {
    STARTERS.contains(&program_name(cmd))
}

pub(super) fn code_of(cmd: &str, args: &[&str]) -> Code {
    let mut code = Code::default();
    let name = program_name(cmd);
    if SHELL_CALLERS.contains(&name) {
        code.all(0..args.len());
    } else if STARTERS.contains(&name) {
        find_starters(args, 0, &mut code);
        find_interpreters(args, &mut code);
    } else if powershell::is(name) {
        powershell::find_code(args, 0, Started::Itself, &mut code);
    } else if let Some(interpreter) = interpreter(name) {
        interpreter.find_code(args, 0, Started::Itself, &mut code);
    } else {
        find_interpreters(args, &mut code);
    }
    code
}

/// Up to the program that a starter runs nothing may come from outside: the first argument that is
/// known to run text, else the first that can be a program at all. `args` are those from `first` on.
fn find_starters(args: &[&str], first: usize, code: &mut Code) {
    let splits = |arg: &&str| arg.starts_with("-S") || arg.starts_with("--split-string");
    if args.iter().any(splits) {
        return code.all(first..first + args.len());
    }
    let known = args.iter().position(|arg| {
        let name = program_name(arg);
        runs_text(name) || STARTERS.contains(&name) || SHELL_CALLERS.contains(&name)
    });
    let program = known.or_else(|| args.iter().position(|arg| may_be_program(arg)));
    let rest = program.map_or(args.len(), |n| n + 1);
    code.args.extend((0..rest).map(|n| first + n));
    let Some(name) = known.map(|n| program_name(args[n])) else { return };
    if SHELL_CALLERS.contains(&name) {
        code.all(first + rest..first + args.len());
    } else if STARTERS.contains(&name) {
        find_starters(&args[rest..], first + rest, code);
    }
}

/// Any program may start what its arguments name, and the first name may be that of a user or of a
/// container: each interpreter is one that may be started, but the `$0` of a shell's text.
fn find_interpreters(args: &[&str], code: &mut Code) {
    let mut zeroth = None;
    for (n, arg) in args.iter().enumerate() {
        // `--entrypoint=sh`
        let value = arg.split_once('=').filter(|(option, _)| option.starts_with('-'));
        let name = program_name(value.map_or(arg, |(_, value)| value));
        if zeroth == Some(n) || !runs_text(name) {
            continue;
        }
        code.args.push(n);
        let is_value = value.is_some() || (n > 0 && args[n - 1].starts_with("--") && args[n - 1].len() > 2);
        code.stdin |= is_value;
        let rest = n + 1;
        if let Some(interpreter) = interpreter(name) {
            zeroth = interpreter.find_code(&args[rest..], rest, Started::ByAnother, code).or(zeroth);
        } else {
            powershell::find_code(&args[rest..], rest, Started::ByAnother, code);
        }
    }
}

fn runs_text(name: &str) -> bool {
    interpreter(name).is_some() || powershell::is(name)
}

fn may_be_program(arg: &str) -> bool {
    !arg.starts_with('-')
        && !arg.contains('=')
        && !arg.starts_with(|c: char| c.is_ascii_digit())
        && !NOT_A_PROGRAM.contains(&arg)
}

/// `python` of `/usr/bin/python3.11`.
fn program_name(cmd: &str) -> &str {
    let name = cmd.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'))
}
