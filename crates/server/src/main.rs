//! The binary `hetuflow-server`.
fn main() {}
