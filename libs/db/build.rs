//! Rebuilds the crate when a migration is added: `sqlx::migrate!` itself only tracks the files that it saw.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
