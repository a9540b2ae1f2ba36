//! Gives the shared library the name by which programs find it again.

fn main() {
    // Before 1.0 a minor version may change the interface, so it is a part of the name.
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libnearcall.so.{major}.{minor}");
    // An engine has a thread, and threads have destructors in here: it cannot be unloaded.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo:rerun-if-changed=build.rs");
}
