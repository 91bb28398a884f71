//! Checks of single texts: globs, names of variables, programs, templates.

use globset::GlobBuilder;

use super::{reader::Table, text::Text};
use crate::template::Template;

/// Bytes of a glob, at most.
const MAX_GLOB: usize = 1024;

/// Below these the kernel shows itself: what changes there is no file that anybody dropped.
const KERNEL_ROOTS: [&str; 3] = ["proc", "sys", "dev"];

/// Variables that make a program load or run something else: no value from outside goes there.
const LOADER_VARIABLES: [&str; 24] = [
    "BASH_ENV",
    "EDITOR",
    "ENV",
    "GLIBC_TUNABLES",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSOPEN",
    "LUA_INIT",
    "LUA_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PHPRC",
    "PROMPT_COMMAND",
    "PS4",
    "SHELLOPTS",
    "TMPDIR",
    "ZDOTDIR",
    "_JAVA_OPTIONS",
];

const LOADER_PREFIXES: [&str; 10] =
    ["LD_", "DYLD_", "BASH_FUNC_", "PERL5", "PYTHON", "RUBY", "GIT_", "SSH_", "GEM_", "NPM_CONFIG_"];

pub(super) fn glob(table: &Table<'_>, text: &Text, key: &str) {
    let problem = |message: String, help: &str| table.problem(text.span.clone(), message, help);
    if text.value.is_empty() || text.value.len() > MAX_GLOB {
        return problem(format!("a glob in {key} has 1 to {MAX_GLOB} characters"), "");
    }
    if text.value.contains("{{") {
        return table.no_template(text, key);
    }
    if let Err(error) = GlobBuilder::new(&text.value).literal_separator(true).build() {
        return problem(format!("{:?} is no glob: {}", text.value, error.kind()), "* ? [a-z] {a,b} and **");
    }
    if text.value.split(['/', '{', '}', ',']).any(|part| part == "..") {
        problem(format!("{:?} leaves its directory by \"..\"", text.value), "write the path that is meant");
    }
}

/// A glob that says what to watch: it also needs a directory to start from.
pub(super) fn watched_glob(table: &Table<'_>, text: &Text, key: &str) {
    glob(table, text, key);
    let problem = |message: String, help: &str| table.problem(text.span.clone(), message, help);
    if text.value.starts_with('~') {
        return problem(format!("{:?}: ~ is not replaced", text.value), "write the absolute path");
    }
    let Some(absolute) = text.value.strip_prefix('/') else { return };
    let mut parts = absolute.split('/').filter(|part| !part.is_empty() && *part != ".");
    let literal = |part: &&str| !part.contains(['*', '?', '[', '{', '\\']);
    let Some(root) = parts.next().filter(literal) else {
        return problem(format!("{:?} would watch the whole machine", text.value), "start with a directory");
    };
    if KERNEL_ROOTS.contains(&root) {
        problem(format!("{:?}: nothing is dropped below /{root}", text.value), "watch a directory of files");
    } else if parts.next().is_none() {
        problem(format!("{:?} would watch /", text.value), "name a directory: \"/data/*.csv\"");
    }
}

/// The name of an environment variable.
pub(super) fn variable(table: &Table<'_>, text: &Text) -> bool {
    let mut bytes = text.value.bytes();
    let valid = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if !valid {
        let message = format!("{:?} is no name of an environment variable", text.value);
        table.problem(text.span.clone(), message, "letters, digits and _, not starting with a digit");
    }
    valid
}

/// A variable that a job sets.
pub(super) fn job_variable(table: &Table<'_>, text: &Text) {
    if variable(table, text) && text.value.starts_with("HETUFLOW_") {
        let message = format!("{:?}: names that start with HETUFLOW_ are set by hetuflow", text.value);
        table.problem(text.span.clone(), message, "choose another name");
    }
}

pub(super) fn loads_code(variable: &str) -> bool {
    let upper = variable.to_ascii_uppercase();
    LOADER_VARIABLES.contains(&upper.as_str())
        || LOADER_PREFIXES.iter().any(|prefix| upper.starts_with(prefix))
}

pub(super) fn program(table: &Table<'_>, text: &Text) {
    let cmd = text.value.trim();
    if cmd.contains("{{") {
        table.no_template(text, "cmd");
    } else if cmd.is_empty() {
        table.problem(text.span.clone(), "cmd is empty", "name the program to run");
    } else if cmd.contains(char::is_whitespace) && !cmd.starts_with('/') {
        let help = "arguments go into args: cmd = \"echo\", args = [\"hello\"]";
        table.problem(text.span.clone(), "cmd is one program, without arguments", help);
    }
}

/// Compiles a text with templates; the problems point at the holes that are wrong.
pub(super) fn template(table: &Table<'_>, text: &Text) -> Option<Template> {
    let errors = match Template::compile(&text.value) {
        Ok(template) => return Some(template),
        Err(errors) => errors,
    };
    for error in errors {
        table.problem(text.place(error.span), error.message, "");
    }
    None
}
