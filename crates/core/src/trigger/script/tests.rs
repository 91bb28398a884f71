//! Which arguments may hold a template, line by line.

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
    check("env -S code code code", true);
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

#[test]
fn options_before_the_program_hide_no_code() {
    check("bash -euo pipefail -c code T", false);
    check("bash -euxo pipefail -c code T", false);
    check("sh -eo pipefail -c code T", false);
    check("bash -oo errexit pipefail -c code T", false);
    check("bash -co pipefail code T", false);
    check("bash -O extglob -c code T T T", false);
    check("bash +euo pipefail +x -c code T", false);
    check("bash -euo pipefail script.sh T", false);
    check("bash -es x", true);
    check("bash -euo pipefail", true);
    check("zsh --emulate sh -c code T", false);
    check("zsh --unknown value -c code code", true);
    check("fish -C code -c code T", false);
    check("perl -C -e code -e code", true);
    check("python -Xdev --unknown value -c code", true);
    check("julia -t 4 -e code T", false);
    check("node --input-type module -e code T", false);
    check("node --unknown module -e code", true);
    check("node app.js T T", false);
    check("sed s/a/b/ T -e code -e code T", false);
    check("R x -e code", false);
    check("deno eval code T", false);
    check("deno eval --ext=ts code T", false);
    check("deno run --allow-net app.ts T", false);
    check("deno run code T", false);
    check("bash /dev/stdin T", true);
}

#[test]
fn powershell() {
    check("pwsh -WorkingDirectory /srv -Command code code", true);
    check("pwsh -ep bypass -NOPROFILE -COMMAND code code", true);
    check("pwsh -c code code", true);
    check("powershell -enc code", true);
    check("pwsh -NoProfile -File x.ps1 T T", false);
    check("pwsh x.ps1 T", false);
    check("sudo pwsh x.ps1 -Command code", true);
    check("pwsh -NoLogo", true);
    check("pwsh -File -", true);
}

#[test]
fn starters_hide_no_code_behind_options() {
    check("sudo bash -euo pipefail -c code T", false);
    check("env A=1 bash -euxo pipefail -c code T", false);
    check("docker exec app sh -eo pipefail -c code T", false);
    check("sudo -u node bash -c code T", false);
    check("sudo -u node -p code bash -c code T", false);
    check("docker exec -u node -e x T sh -c code T", false);
    check("docker run --entrypoint bash image -c code code", true);
    check("docker run --entrypoint=bash image -c code code", true);
    check("docker run -i --entrypoint bash image", true);
    for starter in ["gosu deploy", "su-exec deploy", "pkexec", "lxc exec app --", "nerdctl exec app"] {
        check(&format!("{starter} bash -c code T"), false);
        check(&format!("{starter} bash -euo pipefail -c code T"), false);
    }
    check("pkexec ls T", false);
}

#[test]
fn any_program_may_start_what_it_is_given() {
    check("/opt/run-as T bash -c code T", false);
    check("/opt/run-as T T bash -euo pipefail -c code T", false);
    check("/opt/run-as --shell=bash x -c code code", true);
    check("/opt/run-as python3 app.py T T", false);
    check("/opt/run-as python3", true);
}

#[test]
fn the_name_that_a_shell_text_is_given_starts_nothing() {
    let code = code_of("docker", &["exec", "app", "sh", "-c", "x \"$1\"", "sh", "{{ body.ref }}"]);
    assert!(!code.args.contains(&6), "{code:?}");
    let code = code_of("bash", &["-c", "x \"$@\"", "bash", "-czf", "{{ body.ref }}"]);
    assert!(!code.args.contains(&4), "{code:?}");
    let code = code_of("node", &["app.js", "-p", "{{ body.port }}"]);
    assert_eq!(code.args, [0]);
}
