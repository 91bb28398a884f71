//! `PowerShell`: case does not matter to its options, and all after `-Command` is program text.

use super::{Code, Started};

const NAMES: [&str; 2] = ["pwsh", "powershell"];

/// Options without a value; any other is taken to have one.
const FLAGS: [&str; 9] =
    ["nologo", "noninteractive", "noprofile", "noexit", "login", "mta", "sta", "nop", "noni"];

/// What an argument means; options may be cut short.
#[derive(PartialEq)]
enum Kind {
    Command,
    File,
    Flag,
    Valued,
    Operand,
}

pub(super) fn is(name: &str) -> bool {
    NAMES.contains(&name)
}

pub(super) fn find_code(args: &[&str], first: usize, started: Started, code: &mut Code) {
    let mut n = 0;
    while let Some(arg) = args.get(n) {
        let rest = match kind(arg) {
            Kind::Command => return code.all(first + n..first + args.len()),
            Kind::Flag => {
                code.args.push(first + n);
                n += 1;
                continue;
            }
            Kind::Valued => {
                code.args.extend([first + n, first + n + 1]);
                n += 2;
                continue;
            }
            Kind::File => n + 2,
            Kind::Operand => n + 1,
        };
        code.args.extend((n..rest).map(|n| first + n));
        code.stdin |= args[n..].first() == Some(&"-") || args.get(rest - 1) == Some(&"-");
        // As a rule arguments of a script, unless this is not what the file was.
        let certain = started == Started::Itself && (n == 0 || rest == n + 2);
        let announced = args.iter().skip(rest).any(|arg| kind(arg) == Kind::Command);
        if announced && !certain {
            code.all(first + rest..first + args.len());
        }
        return;
    }
    code.stdin = true;
}

fn kind(arg: &str) -> Kind {
    let Some(name) = arg.strip_prefix('-').filter(|name| !name.is_empty()) else { return Kind::Operand };
    let name = name.trim_start_matches('-').to_ascii_lowercase();
    let cuts = |whole: &[&str]| whole.iter().any(|whole| !name.is_empty() && whole.starts_with(&name));
    if cuts(&["command", "encodedcommand", "ec"]) || name.starts_with("command") || name == "cwa" {
        Kind::Command
    } else if cuts(&["file"]) {
        Kind::File
    } else if FLAGS.contains(&name.as_str()) {
        Kind::Flag
    } else {
        Kind::Valued
    }
}
