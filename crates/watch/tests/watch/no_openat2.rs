//! A kernel, or a sandbox, that does not know `openat2`: everything is watched as before, and links are refused.
#![expect(unsafe_code, reason = "a filter of system calls has no safe form")]

use std::os::unix::fs::symlink;

use hetuflow_core::protocol::WatchHealth;

use crate::world::World;

const OPENAT2: u32 = 437;

/// From now on this thread, and those that it starts, are told that there is no such call.
fn forbid_openat2() {
    let statement =
        |code: u32, k: u32| libc::sock_filter { code: code.try_into().expect("a code"), jt: 0, jf: 0, k };
    let refuse = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let mut filter = [
        // The number of the call is the first word.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, OPENAT2) },
        statement(libc::BPF_RET | libc::BPF_K, refuse),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter live as long as the calls, which keep neither.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

#[test]
fn without_openat2_links_are_refused_and_all_else_goes_on() {
    // Other tests run on other threads.
    std::thread::spawn(|| {
        forbid_openat2();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        runtime.block_on(watch());
    })
    .join()
    .expect("the test");
}

async fn watch() {
    let mut world = World::new("paths = ['in/**/*.csv']\nsymlinks = 'file'\nsettle = '50ms'");
    world.write("in/.store/a", "1");
    world.start_refused().await;
    let state = world.state(|state| state.problem.is_some()).await;
    let problem = state.problem.unwrap_or_default();
    assert!(problem.contains("openat2") && problem.contains("symlinks = \"ignore\""), "{problem}");
    assert_eq!(state.health, WatchHealth::Refused);

    world.edit("paths = ['in/**/*.csv']\nsettle = '50ms'").await;
    symlink(".store/a", world.path("in/a.csv")).expect("linked");
    symlink(".store", world.path("in/folder")).expect("linked");
    world.write("in/sub/b.csv", "1");
    assert_eq!(world.told(1).await, ["arrived in/sub/b.csv 1"]);
}
