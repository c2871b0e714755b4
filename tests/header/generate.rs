//! The header's text, from src/ffi and the tables.

use std::fmt::Write;
use std::sync::Mutex;

use tenure::Code;
use tenure::ffi::constants::GROUPS;

use crate::root;

/// The files with exports, in the header's order.
const SOURCES: &[&str] =
    &["version.rs", "error.rs", "options.rs", "events.rs", "service.rs", "campaign.rs", "observer.rs"];

/// cbindgen reports what it couldn't translate as log lines, and then leaves it out.
struct Complaints(Mutex<Vec<String>>);

static COMPLAINTS: Complaints = Complaints(Mutex::new(Vec::new()));

impl log::Log for Complaints {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }
    fn log(&self, record: &log::Record<'_>) {
        let complaint = record.args().to_string();
        // Private items are not meant to be in the header; whether an export is missing is checked by its symbol.
        let is_private = complaint.ends_with("(not `pub`).") || complaint.ends_with("(not `no_mangle`).");
        if self.enabled(record.metadata()) && !is_private {
            self.0.lock().unwrap().push(format!("{}: {complaint}", record.level()));
        }
    }
    fn flush(&self) {}
}

/// The header as it should be.
pub(crate) fn header() -> String {
    log::set_logger(&COMPLAINTS).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    let mut config = cbindgen::Config::from_file(root("cbindgen.toml")).unwrap();
    config.after_includes = Some(format!("\n{}\n{}", versions(), constants()));
    let sources = SOURCES.iter().map(|file| root("src/ffi").join(file));
    let builder = sources.fold(cbindgen::Builder::new().with_config(config), cbindgen::Builder::with_src);
    let mut text = Vec::new();
    builder.generate().unwrap().write(&mut text);
    let complaints = COMPLAINTS.0.lock().unwrap();
    assert!(complaints.is_empty(), "cbindgen left something out:\n{}", complaints.join("\n"));
    String::from_utf8(text).unwrap()
}

fn versions() -> String {
    let [major, minor, patch] =
        [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    let abi = tenure::ffi::version::tenure_abi_version();
    format!(
        "/** Version of this header; `tenure_version_string` and `tenure_version_number` tell the library's. */
#define TENURE_VERSION_MAJOR {major}
#define TENURE_VERSION_MINOR {minor}
#define TENURE_VERSION_PATCH {patch}
#define TENURE_VERSION_NUMBER (TENURE_VERSION_MAJOR * 1000000 + TENURE_VERSION_MINOR * 1000 + TENURE_VERSION_PATCH)
#define TENURE_VERSION_STRING \"{}\"

/** Version of the ABI that this header describes; `tenure_abi_version` tells the library's. */
#define TENURE_ABI_VERSION {abi}
",
        env!("CARGO_PKG_VERSION")
    )
}

fn constants() -> String {
    let codes = Code::ALL.iter().map(|code| (format!("TENURE_{}", code.name()), code.number(), code.meaning()));
    let mut text = enumeration("Error codes, see tenure_code. Numbers are never changed or reused.", codes);
    for group in GROUPS {
        let constants = group.constants.iter().map(|c| (c.name.to_owned(), c.value, c.doc));
        text += &enumeration(group.doc, constants);
    }
    text
}

fn enumeration<'a>(doc: &str, constants: impl Iterator<Item = (String, i32, &'a str)>) -> String {
    let lines = constants.map(|(name, value, doc)| format!("{}    {name} = {value}", comment(doc)));
    format!("/** {doc} */\nenum {{\n{}\n}};\n\n", lines.collect::<Vec<_>>().join(",\n"))
}

/// A comment above a constant, wrapped.
fn comment(doc: &str) -> String {
    const WIDTH: usize = 108;
    let (mut text, mut line) = (String::new(), String::from("    /**"));
    for word in doc.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            writeln!(text, "{line}").unwrap();
            line = String::from("     *");
        }
        line += " ";
        line += word;
    }
    text + &line + " */\n"
}
