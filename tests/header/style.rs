//! The conventions at the header's head, as far as a machine can check them in src/ffi.

use std::fs;

use tenure::Code;

use crate::root;

/// An `extern "C"` function of src/ffi.
pub(crate) struct Export {
    pub(crate) name: String,
    file: String,
    /// Its doc comment as one line.
    doc: String,
    /// (name, type) in order.
    arguments: Vec<(String, String)>,
    returns: String,
    body: String,
}

/// All exports, as written.
pub(crate) fn exports() -> Vec<Export> {
    let mut exports = Vec::new();
    for entry in fs::read_dir(root("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let marks = text.matches("no_mangle").count();
        let before = exports.len();
        let mut rest = text;
        while let Some((above, below)) = rest.split_once("#[unsafe(no_mangle)]\n") {
            exports.push(export(&file, above, below));
            rest = below;
        }
        assert_eq!(exports.len() - before, marks, "{file}: an export in a form that this test can't read");
    }
    exports
}

fn export(file: &str, above: &str, below: &str) -> Export {
    let doc: Vec<_> = above.lines().rev().take_while(|line| line.starts_with("///")).collect();
    let doc: Vec<_> = doc.into_iter().rev().map(|line| line.trim_start_matches('/').trim()).collect();
    let code = &below[..below.find("\n}").unwrap_or_else(|| panic!("{file}: an export without an end"))];
    let (head, rest) = code.split_once('(').unwrap();
    let is_export = head.starts_with("pub extern \"C\" fn ") || head.starts_with("pub unsafe extern \"C\" fn ");
    assert!(is_export, "{file}: no_mangle without extern \"C\": {head}");
    let (arguments, rest) = rest.split_once(')').unwrap();
    let (returns, body) = rest.split_once('{').unwrap();
    let arguments = arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty());
    Export {
        name: head.rsplit(' ').next().unwrap().to_owned(),
        file: file.to_owned(),
        doc: doc.join(" "),
        arguments: arguments
            .map(|argument| argument.split_once(": ").unwrap())
            .map(|(name, of)| (name.to_owned(), of.to_owned()))
            .collect(),
        returns: returns.trim().trim_start_matches("->").trim().to_owned(),
        body: body.trim().to_owned(),
    }
}

/// Runs a check on every export and lists all that fail.
fn each(check: impl Fn(&Export) -> Result<(), String>) {
    let wrong: Vec<_> = exports()
        .iter()
        .filter_map(|e| check(e).err().map(|wrong| format!("src/ffi/{}: {}: {wrong}", e.file, e.name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn ensure(holds: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

#[test]
fn names_start_with_tenure() {
    each(|e| ensure(e.name.starts_with("tenure_"), "has no tenure_ prefix"));
}

#[test]
fn every_body_is_inside_the_guard() {
    each(|e| {
        let body = e.body.strip_prefix("let user_data = UserData::new(user_data, drop_user_data);\n");
        let body = body.unwrap_or(&e.body).trim();
        let is_inside = body.starts_with("guard::") && is_one_call(body) && is_called_with_names(body);
        ensure(is_inside, "does something outside the guard")
    });
}

/// Whether nothing is called to make the arguments before the closure, but for what can't fail.
fn is_called_with_names(body: &str) -> bool {
    let before = body.split('|').next().unwrap();
    let before = before.replace(".addr()", "").replace("std::ptr::null()", "");
    before.matches('(').count() == 1 && !before.contains('[') && !before.contains('!')
}

/// Whether nothing follows the parenthesis that closes the first one.
fn is_one_call(body: &str) -> bool {
    let mut depth = 0;
    let end = body.char_indices().find_map(|(index, c)| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        (c == ')' && depth == 0).then_some(index)
    });
    end.is_some_and(|end| matches!(&body[end + 1..], "" | ";"))
}

#[test]
fn arguments_are_inputs_then_outputs_then_err() {
    each(|e| {
        let rank = |name: &str| if name == "err" { 2 } else { u8::from(name.starts_with("out_")) };
        let ranks: Vec<_> = e.arguments.iter().map(|(name, _)| rank(name)).collect();
        ensure(ranks.is_sorted(), format!("arguments out of order: {:?}", e.arguments))?;
        for (name, of) in &e.arguments {
            let is_output = of.contains("&mut MaybeUninit<");
            ensure(is_output == (rank(name) > 0), format!("`{name}`: outputs, and only they, are out_* or err"))?;
        }
        let has_err = e.arguments.iter().any(|(name, _)| name == "err");
        let is_code_lookup = e.name.starts_with("tenure_code_");
        ensure(has_err == (e.returns == "tenure_code") || is_code_lookup, "err goes with a tenure_code, and only so")
    });
}

#[test]
fn handles_come_first_and_are_named_after_their_type() {
    each(|e| {
        let Some((name, of)) = e.arguments.first() else { return Ok(()) };
        let Some(of) = of.strip_prefix("*mut tenure_").or(of.strip_prefix("*const tenure_")) else { return Ok(()) };
        ensure(of == name || of == format!("campaign_{name}"), format!("`{name}` is a tenure_{of}"))
    });
}

#[test]
fn frees_answer_nothing_and_news_tell_how_to_free() {
    each(|e| {
        if e.name.ends_with("_free") {
            ensure(e.returns.is_empty() && e.doc.contains("NULL is fine"), "free returns void and takes NULL")?;
        }
        for (name, of) in &e.arguments {
            if name.starts_with("out_") && of.contains("*mut ") {
                let of = of.rsplit("*mut ").next().unwrap().trim_end_matches('>');
                ensure(e.doc.contains(&format!("`{of}_free`")), format!("the doc doesn't say how to free `{name}`"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn docs_name_the_errors_by_their_codes() {
    each(|e| {
        ensure(e.doc.len() > 20, "no doc")?;
        if e.returns != "tenure_code" {
            return Ok(());
        }
        let (_, errors) = e.doc.split_once("Errors: ").ok_or("the doc has no paragraph `Errors: `")?;
        let words = errors.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let capitals = words.filter(|word| word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        for word in capitals {
            let is_code = Code::ALL.iter().any(|code| code.name() == word);
            ensure(is_code, format!("`{word}` is no code"))?;
        }
        let has_timeout = e.arguments.iter().any(|(name, _)| name == "timeout_ms");
        ensure(!has_timeout || errors.contains("INVALID_ARGUMENT"), "a timeout may be an INVALID_ARGUMENT")?;
        ensure(!has_timeout || e.doc.contains("-1"), "the doc doesn't say what a timeout of -1 means")
    });
}

#[test]
fn files_stay_readable() {
    for entry in fs::read_dir(root("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 450, "{}: {lines} lines", path.display());
    }
}
