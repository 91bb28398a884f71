//! Which arguments of a command line are program text. A value from outside that becomes part of it
//! would be run, however it is quoted; so no template is allowed there. In doubt an argument counts
//! as program text: the way out, an environment variable, is always open.

mod interpreter;

use interpreter::interpreter;

/// Where the program text of one command line is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// Indexes into `args`.
    pub(super) args: Vec<usize>,
    /// Standard input is read as program text.
    pub(super) stdin: bool,
}

/// Programs that start the program named by one of their arguments.
const STARTERS: [&str; 27] = [
    "busybox",
    "chroot",
    "chrt",
    "doas",
    "docker",
    "env",
    "find",
    "flock",
    "ionice",
    "kubectl",
    "nice",
    "nohup",
    "nsenter",
    "podman",
    "setpriv",
    "setsid",
    "stdbuf",
    "strace",
    "sudo",
    "systemd-run",
    "taskset",
    "time",
    "timeout",
    "toybox",
    "unshare",
    "xargs",
    "xvfb-run",
];

/// Programs that hand their arguments to a shell, joined or not.
const SHELL_CALLERS: [&str; 9] = ["at", "eval", "parallel", "rsh", "runuser", "script", "ssh", "su", "watch"];

/// Words after which the options of a starter cannot name the program any more.
const NOT_A_PROGRAM: [&str; 6] = ["exec", "run", "-exec", "-execdir", "compose", "--"];

pub(super) fn code_of(cmd: &str, args: &[&str]) -> Code {
    let mut code = Code::default();
    find_code(cmd, args, 0, &mut code);
    code
}

/// `args` are those from `first` on.
fn find_code(cmd: &str, args: &[&str], first: usize, code: &mut Code) {
    let name = program_name(cmd);
    if SHELL_CALLERS.contains(&name) {
        code.args.extend((0..args.len()).map(|n| first + n));
        code.stdin = true;
    } else if STARTERS.contains(&name) {
        started(args, first, code);
    } else if let Some(interpreter) = interpreter(name) {
        interpreter.find_code(args, first, code);
    }
}

/// The program that a starter runs: the first argument that is known to run text, else the first
/// that can be a program at all. Up to it nothing may come from outside.
fn started(args: &[&str], first: usize, code: &mut Code) {
    let known = args.iter().position(|arg| {
        let name = program_name(arg);
        interpreter(name).is_some() || STARTERS.contains(&name) || SHELL_CALLERS.contains(&name)
    });
    let splits = |arg: &&str| arg.starts_with("-S") || arg.starts_with("--split-string");
    if args.iter().any(splits) {
        code.args.extend((0..args.len()).map(|n| first + n));
        return;
    }
    let program = known.or_else(|| args.iter().position(|arg| may_be_program(arg)));
    let upto = program.map_or(args.len(), |n| n + 1);
    code.args.extend((0..upto).map(|n| first + n));
    if let Some(n) = known {
        find_code(args[n], &args[n + 1..], first + n + 1, code);
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `T` marks the arguments that may hold a template.
    fn check(line: &str, stdin: bool) {
        let words: Vec<&str> = line.split(' ').collect();
        let (cmd, args) = words.split_first().expect("a program");
        let code = code_of(cmd, args);
        for (n, arg) in args.iter().enumerate() {
            assert_eq!(!code.args.contains(&n), arg.ends_with('T'), "{line}: {arg} ({code:?})");
        }
        assert_eq!(code.stdin, stdin, "{line}: standard input");
    }

    #[test]
    fn shells() {
        check("bash -c code T T", false);
        check("/bin/sh -ec code -T", false);
        check("bash -lc code T", false);
        check("bash -c -e code T", false);
        check("bash -o pipefail -ec code T", false);
        check("bash --rcfile x -c code T", false);
        check("zsh script.sh T -T", false);
        check("dash", true);
        check("bash -x", true);
        check("bash -s x", true);
        check("busybox sh -c code T", false);
    }

    #[test]
    fn interpreters() {
        check("python3 -c code T", false);
        check("/usr/bin/python3.11 -u app.py T --x=T", false);
        check("python -m http.server T", false);
        check("python3 -", true);
        check("perl -ne code T", false);
        check("perl -e code -e code T", false);
        check("perl -eprint T", false);
        check("ruby -e code T", false);
        check("node -e code T", false);
        check("node --eval=code T", false);
        check("nodejs --require x app.js T", false);
        check("php -r code T", false);
        check("php -f file T", false);
        check("awk code T", false);
        check("awk -F: code T", false);
        check("sed -n -e code T", false);
        check("sed code T", false);
    }

    #[test]
    fn awk_takes_values_safely() {
        let code = code_of("awk", &["-v", "ref={{ body.ref }}", "{ print ref }", "{{ file.path }}"]);
        assert_eq!(code.args, [2]);
    }

    #[test]
    fn programs_that_start_others() {
        check("env A=1 bash -c code T", false);
        check("env -i LANG=C python3 app.py T", false);
        check("env -S code code code", false);
        check("sudo -u deploy bash -c code T", false);
        check("sudo -u deploy T", false);
        check("timeout 5 rsync T T", false);
        check("nice -n 5 timeout 5m sh -c code T", false);
        check("docker exec app sh -c code T", false);
        check("docker run image T", false);
        check("find /x -exec sh -c code T", false);
        check("xargs -0 rm T", false);
        check("ssh host ls code", true);
        check("su deploy -c code", true);
        check("watch ls code", true);
    }

    #[test]
    fn other_programs_run_nothing() {
        check("rsync -aT T", false);
        check("/opt/bash-like T T", false);
        check("git checkoutT T", false);
        check("curl -dT -cT", false);
    }
}
