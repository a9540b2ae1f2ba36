//! Makes the program find the libpython that it is built for, as the worker's `build.rs` does.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    pyo3_build_config::add_libpython_rpath_link_args();
    // The tests start the interpreter they were built for.
    let python = pyo3_build_config::get().executable().unwrap_or("python3");
    println!("cargo::rustc-env=NEARCALL_BUILT_FOR={python}");
}
