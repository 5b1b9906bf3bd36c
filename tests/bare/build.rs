//! No C library, no start-up code: what is not in the core or in `main.rs` does not exist.

fn main() {
    // On aarch64 the linker is rust-lld itself, which adds nothing that was not asked for.
    if std::env::var("CARGO_CFG_TARGET_ENV").as_deref() == Ok("gnu") {
        for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
            println!("cargo::rustc-link-arg-bins={argument}");
        }
    }
}
