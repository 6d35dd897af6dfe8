//! Makes cargo see new migrations: `embed_migrations!` reads a folder that is not part of this crate.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
