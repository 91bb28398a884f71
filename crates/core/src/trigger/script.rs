//! Which arguments of a command line are program text. A value from outside that becomes part of it
//! would be run, however it is quoted; so no template is allowed there. In doubt an argument counts
//! as program text: the way out, an environment variable, is always open.

/// Where the program text of one command line is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// Indexes into `args`.
    pub(super) args: Vec<usize>,
    /// Standard input is read as program text.
    pub(super) stdin: bool,
}

/// A program that runs text.
struct Interpreter {
    /// Without the version at the end.
    names: &'static [&'static str],
    /// An option of this kind makes the next operand program text.
    code: &'static [&'static str],
    /// Such options may also be one letter among others: `-lc`, `-ne`.
    code_letters: &'static [char],
    /// Options that take the next argument as their value.
    values: &'static [&'static str],
    then: Then,
}

/// What comes after program text that an option has named.
#[derive(PartialEq)]
enum Then {
    /// Arguments of the program text.
    Arguments,
    /// More options, then arguments.
    Options,
}

const INTERPRETERS: [Interpreter; 9] = [
    Interpreter {
        names: &["sh", "bash", "rbash", "dash", "zsh", "ksh", "mksh", "ash", "yash", "fish", "csh", "tcsh"],
        code: &["--command", "--init-command"],
        code_letters: &['c', 'C'],
        values: &["-o", "+o", "-O", "+O", "--rcfile", "--init-file"],
        then: Then::Arguments,
    },
    Interpreter {
        names: &["python", "pypy", "ipython"],
        code: &["-m"],
        code_letters: &['c'],
        values: &["-W", "-X"],
        then: Then::Arguments,
    },
    Interpreter {
        names: &["perl", "ruby", "jruby"],
        code: &[],
        code_letters: &['e', 'E'],
        values: &["-I", "-r", "-C"],
        then: Then::Options,
    },
    Interpreter {
        names: &["node", "nodejs", "bun"],
        code: &["--eval", "--print"],
        code_letters: &['e', 'p'],
        values: &["-r", "--require", "--import", "--loader"],
        then: Then::Options,
    },
    Interpreter {
        names: &["php"],
        code: &["--run", "--process-begin", "--process-code", "--process-end"],
        code_letters: &['r', 'B', 'R', 'E'],
        values: &["-d", "-c"],
        then: Then::Options,
    },
    Interpreter {
        names: &["lua", "luajit", "Rscript", "R", "julia", "groovy", "osascript", "tclsh", "expect"],
        code: &["--eval", "--print"],
        code_letters: &['e', 'E', 'c'],
        values: &["-l"],
        then: Then::Options,
    },
    Interpreter {
        names: &["pwsh", "powershell"],
        code: &["-Command", "-EncodedCommand", "-File"],
        code_letters: &['c'],
        values: &["-ExecutionPolicy"],
        then: Then::Arguments,
    },
    // The first operand is the program, whatever the options are.
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk"],
        code: &["--source"],
        code_letters: &['e'],
        values: &["-F", "-f"],
        then: Then::Options,
    },
    Interpreter {
        names: &["sed", "gsed"],
        code: &["--expression"],
        code_letters: &['e'],
        values: &["-f", "-l"],
        then: Then::Options,
    },
];

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

fn interpreter(name: &str) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))
}

impl Interpreter {
    fn find_code(&self, args: &[&str], first: usize, code: &mut Code) {
        let (mut expects_code, mut has_code) = (false, false);
        let mut n = 0;
        while let Some(arg) = args.get(n) {
            if !is_option(arg) {
                // The program text, or the name of its file; `-` is standard input.
                let is_code = expects_code || !has_code;
                if is_code {
                    code.args.push(first + n);
                    code.stdin |= *arg == "-" && !expects_code;
                }
                let goes_on = expects_code && self.then == Then::Options;
                (expects_code, has_code) = (false, true);
                if !is_code || !goes_on {
                    return;
                }
            } else if self.is_assignment(arg) {
                // awk's -v: a value, safely.
                n += 1;
            } else {
                code.args.push(first + n);
                code.stdin |= *arg == "-s" && self.names.contains(&"sh");
                if self.values.contains(arg) {
                    code.args.push(first + n + 1);
                    n += 1;
                    has_code |= *arg == "-f";
                } else {
                    expects_code |= self.announces_code(arg);
                    has_code |= self.holds_code(arg);
                }
            }
            n += 1;
        }
        code.stdin |= !has_code;
    }

    /// `-c`, `-lc`, `--eval`: the next operand is program text.
    fn announces_code(&self, option: &str) -> bool {
        if self.code.contains(&option) {
            return true;
        }
        let letters = option.strip_prefix('-').filter(|letters| !letters.starts_with('-'));
        letters.is_some_and(|letters| {
            let last = letters.chars().last();
            match self.then {
                // A shell's -c stands anywhere among the letters, and its text still comes after them.
                Then::Arguments => letters.contains(self.code_letters),
                Then::Options => last.is_some_and(|last| self.code_letters.contains(&last)),
            }
        })
    }

    /// `--eval=text`, `-etext`.
    fn holds_code(&self, option: &str) -> bool {
        let long = option.split_once('=').is_some_and(|(name, _)| self.code.contains(&name));
        let short = option.strip_prefix('-').is_some_and(|letters| {
            letters.starts_with(self.code_letters) && letters.len() > 1 && !self.announces_code(option)
        });
        long || short
    }

    fn is_assignment(&self, option: &str) -> bool {
        self.names.contains(&"awk") && matches!(option, "-v" | "--assign")
    }
}

fn is_option(arg: &str) -> bool {
    arg.len() > 1 && arg.starts_with(['-', '+'])
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
