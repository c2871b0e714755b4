//! What is made from the sources stays true to them: the header, the pages, the code numbers, the exports.
//!
//! `make header` (TENURE_UPDATE=1 cargo test --test header) writes the files anew; without it
//! they are checked.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test; its helpers stand outside of test functions")]

mod compile;
mod docs;
mod exports;
mod generate;
mod python;
mod style;

use std::fs;
use std::path::{Path, PathBuf};

/// A file of the project.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    fs::read_to_string(root(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn is_update() -> bool {
    std::env::var_os("TENURE_UPDATE").is_some_and(|value| value == "1")
}

/// Holds a committed file to what it should be, or writes it.
fn check_file(path: &str, expected: &str) {
    if is_update() {
        if fs::read_to_string(root(path)).ok().as_deref() != Some(expected) {
            fs::write(root(path), expected).unwrap();
        }
        return;
    }
    let found = read(path);
    if found == expected {
        return;
    }
    let differs = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    let line = differs.unwrap_or_else(|| found.lines().count().min(expected.lines().count()));
    panic!(
        "{path} is out of date from line {}; run `make header` and commit it\n  found:    {:?}\n  expected: {:?}",
        line + 1,
        found.lines().nth(line).unwrap_or(""),
        expected.lines().nth(line).unwrap_or(""),
    );
}

#[test]
fn the_header_and_the_pages_are_up_to_date() {
    check_file("include/tenure.h", &generate::header());
    check_file("docs/errors.md", &docs::errors());
    check_file("docs/options.md", &docs::options());
    check_file("bindings/python/src/tenure/_codes.py", &python::codes());
    check_numbers();
}

/// Codes are for ever: even an update may only append.
fn check_numbers() {
    const PATH: &str = "tests/golden/codes.txt";
    let codes = docs::codes();
    let before = if root(PATH).exists() { read(PATH) } else { String::new() };
    assert!(
        codes.starts_with(&before),
        "{PATH}: a code was renumbered, renamed or removed, which breaks programs that are out there:\n{before}\n{codes}"
    );
    check_file(PATH, &codes);
}
