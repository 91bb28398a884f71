//! The programs that run text, and how each is told which text.

use super::Code;

/// A program that runs text.
pub(super) struct Interpreter {
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

pub(super) fn interpreter(name: &str) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))
}

impl Interpreter {
    pub(super) fn find_code(&self, args: &[&str], first: usize, code: &mut Code) {
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
