//! Linker settings of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    // The SONAME follows the ABI version (`tenure_abi_version`), not the package version.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libtenure.so.0");
    // A runtime thread and fork handlers outlive dlclose, so the code must stay mapped.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
