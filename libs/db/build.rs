//! Rebuilds the crate when a migration is added: `sqlx::migrate!` itself only tracks the files that it saw.
#![expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
