//! The programs that run text, and how each is told which text.

use super::{Code, Started};

/// Names of standard input.
const STDIN: [&str; 4] = ["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];

/// A program that runs text.
pub(super) struct Interpreter {
    /// Without the version at the end.
    names: &'static [&'static str],
    /// An argument of this kind makes the next operand program text.
    code: &'static [&'static str],
    /// Such options may also be one letter among others: `-lc`, `-ne`.
    code_letters: &'static [char],
    /// Options that take the next argument as their value.
    values: &'static [&'static str],
    /// Words before the program: `deno run app.ts`.
    commands: &'static [&'static str],
    /// Options are options after operands too.
    permutes: bool,
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

const OF_NO_NAME: Interpreter = Interpreter {
    names: &[],
    code: &[],
    code_letters: &[],
    values: &[],
    commands: &[],
    permutes: false,
    then: Then::Options,
};

const INTERPRETERS: [Interpreter; 11] = [
    Interpreter {
        names: &["sh", "bash", "rbash", "dash", "zsh", "ksh", "mksh", "ash", "yash", "csh", "tcsh"],
        code: &["--command"],
        code_letters: &['c'],
        values: &["--rcfile", "--init-file", "--emulate"],
        then: Then::Arguments,
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["fish"],
        code: &["--command", "--init-command"],
        code_letters: &['c', 'C'],
        values: &["-d", "-D", "-f", "-o"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["python", "pypy", "ipython"],
        code: &["-m"],
        code_letters: &['c'],
        values: &["-W", "-X"],
        then: Then::Arguments,
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["perl", "ruby", "jruby"],
        code_letters: &['e', 'E'],
        values: &["-I", "-r", "-C"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["node", "nodejs", "bun", "deno"],
        code: &["--eval", "--print", "eval", "exec"],
        code_letters: &['e', 'p'],
        values: &["-r", "--require", "--import", "--loader", "--input-type", "-C", "--conditions"],
        commands: &["run", "inspect"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["php"],
        code: &["--run", "--process-begin", "--process-code", "--process-end"],
        code_letters: &['r', 'B', 'R', 'E'],
        values: &["-d", "-c"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["lua", "luajit", "groovy", "osascript", "tclsh", "expect"],
        code: &["--eval", "--print"],
        code_letters: &['e', 'E', 'c'],
        values: &["-l"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["julia"],
        code: &["--eval", "--print"],
        code_letters: &['e', 'E'],
        values: &["-t", "--threads", "-p", "--procs", "-C", "-J", "-H", "-L"],
        ..OF_NO_NAME
    },
    Interpreter { names: &["R", "Rscript"], code_letters: &['e'], permutes: true, ..OF_NO_NAME },
    // The first operand is the program, whatever the options are.
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk"],
        code: &["--source"],
        code_letters: &['e'],
        values: &["-F", "-f"],
        ..OF_NO_NAME
    },
    Interpreter {
        names: &["sed", "gsed"],
        code: &["--expression"],
        code_letters: &['e'],
        values: &["-f", "-l"],
        permutes: true,
        ..OF_NO_NAME
    },
];

pub(super) fn interpreter(name: &str) -> Option<&'static Interpreter> {
    INTERPRETERS.iter().find(|interpreter| interpreter.names.contains(&name))
}

impl Interpreter {
    /// Marks the program text among the arguments of this program, which stand from `first` on.
    /// The answer is where a shell's `$0` is, when the text before it was named by `-c`.
    pub(super) fn find_code(
        &self,
        args: &[&str],
        first: usize,
        started: Started,
        code: &mut Code,
    ) -> Option<usize> {
        let (mut expects_code, mut has_code) = (false, false);
        let mut n = 0;
        while let Some(arg) = args.get(n) {
            if self.code.contains(arg) || is_option(arg) {
                if self.is_assignment(arg) {
                    // awk's -v: a value, safely.
                    n += 2;
                    continue;
                }
                let values = self.values_after(arg);
                code.args.extend((n..=n + values).map(|n| first + n));
                code.stdin |= self.is_shell() && letters(arg).is_some_and(|letters| letters.contains('s'));
                has_code |= values > 0 && *arg == "-f";
                expects_code |= self.announces_code(arg);
                has_code |= self.holds_code(arg);
                n += values;
            } else if !self.commands.contains(arg) || has_code {
                // The program text, or the name of its file; `-` is standard input.
                let is_code = expects_code || !has_code;
                if is_code {
                    code.args.push(first + n);
                    code.stdin |= STDIN.contains(arg) && !expects_code;
                }
                let was_named = n > 0 && expects_code && self.announces_code(args[n - 1]);
                let goes_on = self.permutes || (expects_code && self.then == Then::Options);
                (expects_code, has_code) = (false, true);
                if !goes_on {
                    let certain = n == 0 || was_named || !is_code;
                    self.doubt(args, first, n + 1, started == Started::Itself && certain, code);
                    return (was_named && self.is_shell()).then_some(first + n + 1);
                }
            } else {
                code.args.push(first + n);
            }
            n += 1;
        }
        code.stdin |= !has_code;
        None
    }

    /// What was taken for the program may have been the value of an option that is not known here: when
    /// code is announced after it, all of that may be program text.
    fn doubt(&self, args: &[&str], first: usize, rest: usize, certain: bool, code: &mut Code) {
        let announced = |arg: &&str| {
            // What a template makes of an argument that is none of the program's is not looked at.
            let literal = arg.split("{{").next().unwrap_or_default();
            self.announces_code(literal) || self.holds_code(literal)
        };
        if !certain && args[rest..].iter().any(announced) {
            code.args.extend((rest..args.len()).map(|n| first + n));
            code.stdin = true;
        }
    }

    /// How many arguments after this option are its values: `-o pipefail`, and each o of `-euo`.
    fn values_after(&self, option: &str) -> usize {
        if self.values.contains(&option) {
            return 1;
        }
        match letters(option) {
            Some(letters) if self.is_shell() => letters.matches(['o', 'O']).count(),
            _ => 0,
        }
    }

    fn is_shell(&self) -> bool {
        self.names.contains(&"sh")
    }

    /// `-c`, `-lc`, `--eval`: the next operand is program text.
    fn announces_code(&self, option: &str) -> bool {
        if self.code.contains(&option) {
            return true;
        }
        option.strip_prefix('-').filter(|letters| !letters.starts_with('-')).is_some_and(|letters| {
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

/// The letters of `-euo` and `+o`.
fn letters(option: &str) -> Option<&str> {
    option.strip_prefix(['-', '+']).filter(|letters| !letters.starts_with('-'))
}
