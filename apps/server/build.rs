//! New files of the browser app, whose names are hashes, are noticed by nothing else.

fn main() {
    println!("cargo::rerun-if-changed=../web/dist");
}
