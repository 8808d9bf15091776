//! Offline query data is read by macros, which cargo does not know of.

fn main() {
    println!("cargo::rerun-if-changed=.sqlx");
}
