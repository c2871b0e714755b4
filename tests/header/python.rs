//! The codes and exceptions of the Python package, from the table in src/error.rs.

use std::fmt::Write;

use tenure::Code;

const HEAD: &str = r#""""Codes and their exceptions. Generated from the table in src/error.rs by `make header`; see docs/errors.md."""

from __future__ import annotations

import builtins

from ._errors import TenureError
from ._numbers import Numbers


class Code(Numbers):
    """Why a call failed or a candidacy ended. A number that this version doesn't know has the name UNKNOWN."""

"#;

/// As long as the formatter lets lines be.
const WIDTH: usize = 120;

/// bindings/python/src/tenure/_codes.py
pub(crate) fn codes() -> String {
    let mut file = HEAD.to_owned();
    for code in Code::ALL {
        writeln!(file, "    {} = {}", code.name(), code.number()).unwrap();
    }
    let failures = || Code::ALL.iter().filter(|&&code| code != Code::Ok);
    for code in failures() {
        // Python's own TimeoutError is what a careful program catches already.
        let bases = if *code == Code::Timeout { "TenureError, builtins.TimeoutError" } else { "TenureError" };
        let (name, doc) = (code.name(), doc(code.meaning().trim()));
        write!(file, "\n\nclass {}({bases}):\n{doc}\n    code = Code.{name}\n    name = \"{name}\"\n", class(*code))
            .unwrap();
        if code.is_retriable() {
            file += "    retryable = True\n";
        }
    }
    file += "\n\nEXCEPTIONS: dict[int, type[TenureError]] = {\n";
    for code in failures() {
        writeln!(file, "    {}: {},", code.number(), class(*code)).unwrap();
    }
    file + "}\n"
}

/// NO_LEADER is NoLeaderError.
fn class(code: Code) -> String {
    let words = code.name().split('_').map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()));
    words.chain(["Error".to_owned()]).collect()
}

/// A docstring, in lines of at most WIDTH characters.
fn doc(text: &str) -> String {
    let (mut doc, mut line) = (String::new(), String::from("   "));
    for word in format!("\"\"\"{text}\"\"\"").split(' ') {
        if line.len() + 1 + word.len() > WIDTH {
            doc += &line;
            doc.push('\n');
            line = String::from("   ");
        }
        line.push(' ');
        line += word;
    }
    doc + &line + "\n"
}
