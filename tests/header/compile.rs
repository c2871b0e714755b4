//! C and C++ compilers take the header, and see the same numbers and layouts as Rust.

use std::fmt::Write;
use std::fs;
use std::mem::offset_of;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tenure::Code;
use tenure::ffi::constants::GROUPS;
use tenure::ffi::error::tenure_error;
use tenure::ffi::events::{tenure_candidate, tenure_candidates, tenure_event};
use tenure::ffi::version::{tenure_abi_version, tenure_version_number};

use crate::exports::{library, output};
use crate::{is_update, root};

const WARNINGS: &[&str] = &["-Wall", "-Wextra", "-pedantic", "-Werror"];
const C: (&str, &[&str]) = ("gcc", &["-Wconversion", "-Wstrict-prototypes", "-Wold-style-definition"]);
const CPP: (&str, &[&str]) = ("g++", &["-Wconversion", "-Wold-style-cast"]);

/// A fresh folder for this test's files.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn compiler((command, warnings): (&str, &[&str]), standard: &str) -> Command {
    let mut compiler = Command::new(command);
    compiler.arg(format!("-std={standard}")).args(WARNINGS).args(warnings).arg("-I").arg(root("include"));
    compiler
}

/// Links a program of one file with the library and runs it.
fn run(mut compiler: Command, source: &Path, folder: &Path) -> String {
    let program = folder.join("program");
    symlink(library(), folder.join("libtenure.so")).unwrap();
    symlink(library(), folder.join("libtenure.so.0")).unwrap();
    compiler.args(["-g", "-pthread", "-o"]).arg(&program).arg(source).arg("-L").arg(folder).arg("-ltenure");
    output(&mut compiler);
    output(Command::new(program).env("LD_LIBRARY_PATH", folder))
}

#[test]
fn every_standard_takes_the_header_without_a_warning() {
    if is_update() {
        return;
    }
    let folder = folder("standards");
    for (compiler_of, file, standards) in
        [(C, "twice.c", ["c99", "c11", "c17", "c2x"]), (CPP, "twice.cpp", ["c++11", "c++14", "c++17", "c++20"])]
    {
        let source = folder.join(file);
        fs::write(&source, "#include <tenure.h>\n#include <tenure.h>\n").unwrap();
        for standard in standards {
            output(compiler(compiler_of, standard).arg("-fsyntax-only").arg(&source));
        }
    }
}

#[test]
fn cpp_programs_link_with_the_library() {
    if is_update() {
        return;
    }
    let folder = folder("cpp");
    let source = folder.join("version.cpp");
    fs::write(
        &source,
        "#include <tenure.h>\n#include <cstdio>\nint main() {\n    std::printf(\"%u %s\", tenure_version_number(), \
         tenure_version_string());\n}\n",
    )
    .unwrap();
    let expected = format!("{} {}", tenure_version_number(), env!("CARGO_PKG_VERSION"));
    assert_eq!(run(compiler(CPP, "c++11"), &source, &folder), expected);
}

/// Asserts the size of a struct and the offset of each of its fields; all of them, else this doesn't compile.
macro_rules! layout {
    ($asserts:ident: $of:ident { $($field:ident),+ $(,)? }) => {
        let _every_field_is_named = |of: &$of| { let $of { $($field: _),+ } = of; };
        writeln!($asserts, "SAME(sizeof({0}), {1});", stringify!($of), size_of::<$of>()).unwrap();
        $(writeln!($asserts, "SAME(offsetof({0}, {1}), {2});", stringify!($of), stringify!($field),
            offset_of!($of, $field)).unwrap();)+
    };
}

#[test]
fn c_sees_the_numbers_and_layouts_of_rust() {
    if is_update() {
        return;
    }
    let mut asserts = String::from("#include <tenure.h>\n#define SAME(a, b) _Static_assert((a) == (b), #a)\n");
    for code in Code::ALL {
        writeln!(asserts, "SAME(TENURE_{}, {});", code.name(), code.number()).unwrap();
    }
    for constant in GROUPS.iter().flat_map(|group| group.constants) {
        writeln!(asserts, "SAME({}, {});", constant.name, constant.value).unwrap();
    }
    writeln!(asserts, "SAME(TENURE_VERSION_NUMBER, {});", tenure_version_number()).unwrap();
    writeln!(asserts, "SAME(TENURE_ABI_VERSION, {});", tenure_abi_version()).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(asserts, "SAME(sizeof(TENURE_VERSION_STRING), sizeof(\"{version}\"));").unwrap();
    for of in ["code", "state", "event_kind", "level"] {
        writeln!(asserts, "SAME(sizeof(tenure_{of}), {});", size_of::<i32>()).unwrap();
    }
    layout!(asserts: tenure_error { struct_size, code, name, message, is_retriable });
    layout!(asserts: tenure_candidate { struct_size, value, value_len, token, key, key_len, lease });
    layout!(asserts: tenure_candidates { struct_size, count, items });
    layout!(asserts: tenure_event {
        struct_size, kind, sequence, time_ns, campaign, observer, user_data, election, state, reason, reason_name, message,
        value, value_len, token, cluster_id, revision, deadline_ns, key, key_len, lease, level, at_risk, has_leader,
        connected, closed,
    });
    let source = folder("layout").join("layout.c");
    fs::write(&source, asserts).unwrap();
    output(compiler(C, "c11").arg("-fsyntax-only").arg(&source));
}

#[test]
fn the_c_program_that_misuses_everything_passes() {
    if is_update() {
        return;
    }
    let folder = folder("abi");
    assert_eq!(run(compiler(C, "c11"), &root("tests/c/abi.c"), &folder), "ok\n");
}
