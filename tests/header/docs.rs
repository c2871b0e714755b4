//! The pages that are made from the tables of codes and options, and the list of code numbers.

use std::fmt::Write;

use tenure::Code;
use tenure::config::{CAMPAIGN, OptionRow, SERVICE};

/// docs/errors.md
pub(crate) fn errors() -> String {
    let mut page = String::from(
        "# Error codes\n\n\
         Generated from the table in `src/error.rs` by `make header`. The numbers are part of the ABI: they are never \
         changed or reused.\n\n\
         In C a code is `TENURE_` and its name. *Retriable* means that the same call may succeed later with nothing \
         changed by the caller.\n\n\
         | number | name | text | retriable | meaning |\n|---:|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let retriable = if code.is_retriable() { "yes" } else { "" };
        let (number, name, text) = (code.number(), code.name(), code.text());
        writeln!(page, "| {number} | `{name}` | {text} | {retriable} | {} |", cell(code.meaning())).unwrap();
    }
    page
}

/// docs/options.md
pub(crate) fn options() -> String {
    format!(
        "# Options\n\n\
         Generated from the tables in `src/config/mod.rs` by `make header`.\n\n\
         Names and values are text. A name that isn't listed answers `UNKNOWN_OPTION`, a value outside its range \
         `INVALID_VALUE`; contradictions between options are found when the service opens or the campaign starts. \
         Durations are a whole number and `ms`, `s`, `m` or `h`, as in `5s`, or `0`.\n\n\
         ## Of a service\n\n{}\n## Of a campaign\n\n{}",
        table(SERVICE),
        table(CAMPAIGN)
    )
}

fn table<T>(rows: &[OptionRow<T>]) -> String {
    let mut table = String::from("| name | range | default | what it does |\n|---|---|---|---|\n");
    for row in rows {
        let default = if row.default.is_empty() { "empty" } else { row.default };
        writeln!(table, "| `{}` | {} | {} | {} |", row.name, cell(row.range), cell(default), cell(row.doc)).unwrap();
    }
    table
}

/// A text inside a table.
fn cell(text: &str) -> String {
    text.trim().replace('|', "\\|")
}

/// tests/golden/codes.txt
pub(crate) fn codes() -> String {
    Code::ALL.iter().map(|code| format!("{} {}\n", code.number(), code.name())).collect()
}
