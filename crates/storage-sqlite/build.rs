//! Migrations and offline query data are read by macros, which cargo does not know of.

fn main() {
    println!("cargo::rerun-if-changed=../../migrations");
    println!("cargo::rerun-if-changed=.sqlx");
}
