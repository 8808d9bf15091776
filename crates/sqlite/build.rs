//! Migrations are read by a macro, which cargo does not know of.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations/sqlite");
}
