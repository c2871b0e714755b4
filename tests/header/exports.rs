//! The shared library exports what the header declares, and nothing else.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use crate::style::exports;
use crate::{is_update, read};

/// The shared library that cargo built beside this test.
pub(crate) fn library() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = folder.join("libtenure.so");
    assert!(library.exists(), "{} is missing: cargo builds it with the crate type cdylib", library.display());
    library
}

pub(crate) fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names followed by an opening parenthesis at a declaration of the header.
fn declared(header: &str) -> BTreeSet<String> {
    let mut declared = BTreeSet::new();
    let without_comments = header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code));
    for word in without_comments.collect::<String>().split_whitespace() {
        if let Some((name, _)) = word.trim_start_matches('*').split_once('(')
            && name.starts_with("tenure_")
        {
            declared.insert(name.to_owned());
        }
    }
    declared
}

#[test]
fn the_library_exports_exactly_what_the_header_declares() {
    if is_update() {
        return;
    }
    let symbols = output(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library()));
    let exported: BTreeSet<_> = symbols.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    let declared = declared(&read("include/tenure.h"));
    let written: BTreeSet<_> = exports().into_iter().map(|export| export.name).collect();
    assert!(declared.len() > 30, "{declared:?}");
    assert_eq!(written, declared, "functions in src/ffi against the header's");
    assert_eq!(exported, declared, "symbols of the library against the header's");
}

#[test]
fn the_library_has_its_name_and_stays_loaded() {
    let dynamic = output(Command::new("readelf").arg("-dW").arg(library()));
    assert!(dynamic.contains("Library soname: [libtenure.so.0]"), "{dynamic}");
    assert!(dynamic.lines().any(|line| line.contains("FLAGS_1") && line.contains("NODELETE")), "{dynamic}");
}
