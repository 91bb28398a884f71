//! How the job of `bench webhook` is linked: without the C library and the code that starts one, where that is known to
//! work. Elsewhere it is an ordinary program.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(bare)");
    let of_target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    let known = matches!(of_target("ARCH").as_str(), "x86_64" | "aarch64");
    if known && of_target("OS") == "linux" && of_target("ENV") == "gnu" {
        println!("cargo:rustc-cfg=bare");
        for argument in ["-nostartfiles", "-no-pie", "-Wl,--no-dynamic-linker"] {
            println!("cargo:rustc-link-arg-bin=hetuflow-bench-job={argument}");
        }
    }
}
