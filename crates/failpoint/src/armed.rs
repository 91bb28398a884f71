//! What failpoints do when they are compiled in: what `HETUFLOW_FAILPOINTS` says, `NAME=ACTION@N` for the Nth time that
//! the place is passed and `NAME=ACTION/N` for every Nth time, separated by semicolons. Actions are `kill` (SIGKILL to
//! this process), `freeze` (SIGSTOP) and `error`.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

use rustix::process::{Signal, getpid, kill_process};

const VARIABLE: &str = "HETUFLOW_FAILPOINTS";

#[derive(Debug)]
struct Order {
    name: String,
    action: Action,
    when: When,
    passed: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Kill,
    Freeze,
    Error,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Once(u64),
    Every(u64),
}

/// Whether this process has an order for that point, so that the way that passes it is taken.
#[must_use]
pub fn armed(name: &str) -> bool {
    orders().iter().any(|order| order.name == name)
}

/// True when the error is to be returned.
#[must_use]
pub fn hit(name: &str) -> bool {
    let Some(order) = orders().iter().find(|order| order.name == name) else { return false };
    let passed = order.passed.fetch_add(1, Ordering::SeqCst) + 1;
    let due = match order.when {
        When::Once(n) => passed == n,
        When::Every(n) => passed.is_multiple_of(n),
    };
    if due {
        // The harness looks for it: an order that was never carried out proves nothing.
        eprintln!("failpoint {name} reached");
    }
    match order.action {
        Action::Error => return due,
        Action::Kill if due => send(Signal::KILL),
        Action::Freeze if due => send(Signal::STOP),
        Action::Kill | Action::Freeze => {}
    }
    false
}

fn orders() -> &'static [Order] {
    static ORDERS: OnceLock<Vec<Order>> = OnceLock::new();
    ORDERS.get_or_init(|| parse(&std::env::var(VARIABLE).unwrap_or_default()))
}

fn send(signal: Signal) {
    // A signal to oneself cannot fail.
    let _ = kill_process(getpid(), signal);
}

/// A typing error in an order is an order that never comes; the harness sees that its point was not reached.
fn parse(text: &str) -> Vec<Order> {
    text.split(';').filter_map(order).collect()
}

fn order(text: &str) -> Option<Order> {
    let (name, rest) = text.trim().split_once('=')?;
    let (action, when) = match (rest.split_once('@'), rest.split_once('/')) {
        (Some((action, n)), _) => (action, When::Once(n.parse().ok()?)),
        (_, Some((action, n))) => (action, When::Every(n.parse().ok().filter(|n| *n > 0)?)),
        (None, None) => (rest, When::Once(1)),
    };
    let action = match action {
        "kill" => Action::Kill,
        "freeze" => Action::Freeze,
        "error" => Action::Error,
        _ => return None,
    };
    Some(Order { name: name.to_owned(), action, when, passed: AtomicU64::new(0) })
}
