//! From text to values; each error is the reason only, the caller names the option.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Delivery, MAX_NAME_BYTES, MAX_TTL, MAX_VALUE_BYTES, MEMORY_SCHEME, MIN_TTL};
use crate::events::Level;

const TIMEOUTS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(300));
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// `300ms`, `5s`, `2m`, `1h`, or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let bad = || format!("`{}` is not a duration; write a whole number and ms, s, m or h, as in `5s`", shown(text));
    let number: u64 = number.parse().map_err(|_| bad())?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    Ok(Duration::from_millis(number.checked_mul(unit_ms).ok_or_else(bad)?))
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = duration(text)?;
    if ttl < MIN_TTL {
        return Err(format!("{} is below etcd's minimum of 2 s", shown(text)));
    }
    if ttl > MAX_TTL {
        return Err(format!("{} is above the maximum of 24 h", shown(text)));
    }
    if ttl.subsec_nanos() != 0 {
        return Err(format!("{} is not whole seconds, which is all that etcd knows", shown(text)));
    }
    Ok(ttl)
}

pub(super) fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    if timeout < TIMEOUTS.0 || timeout > TIMEOUTS.1 {
        return Err(format!("{} is outside 10 ms to 5 min", shown(text)));
    }
    Ok(timeout)
}

pub(super) fn wait_limit(text: &str) -> Result<Option<Duration>, String> {
    let limit = duration(text)?;
    if limit > MAX_WAIT {
        return Err(format!("{} is above the maximum of 24 h", shown(text)));
    }
    Ok((!limit.is_zero()).then_some(limit))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{}` is neither `true` nor `false`", shown(text))),
    }
}

pub(super) fn delivery(text: &str) -> Result<Delivery, String> {
    match text {
        "callback" => Ok(Delivery::Callback),
        "pull" => Ok(Delivery::Pull),
        _ => Err(format!("`{}` is neither `callback` nor `pull`", shown(text))),
    }
}

pub(super) fn level(text: &str) -> Result<Level, String> {
    match text {
        "off" => Ok(Level::Off),
        "error" => Ok(Level::Error),
        "warn" => Ok(Level::Warn),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        _ => Err(format!("`{}` is none of off, error, warn, info, debug", shown(text))),
    }
}

/// Checks the name of an election, service, environment or root: 1 to 1024 bytes, no NUL, no empty part between
/// slashes (`a//b` would make two names meet in one key).
///
/// # Errors
/// The reason.
pub(crate) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".into());
    }
    prefix(text)?;
    if text.split('/').any(str::is_empty) {
        return Err(format!("`{}` has an empty part: no slash at either end, no two in a row", shown(text)));
    }
    Ok(())
}

pub(super) fn name_or_empty(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { name(text) }
}

pub(super) fn prefix(text: &str) -> Result<(), String> {
    if text.len() > MAX_NAME_BYTES {
        return Err(format!("{} bytes is above the limit of {MAX_NAME_BYTES}", text.len()));
    }
    if text.contains('\0') {
        return Err("must not contain NUL".into());
    }
    Ok(())
}

pub(super) fn text(text: &str) -> Result<(), String> {
    if text.is_empty() { Err("must not be empty".into()) } else { Ok(()) }
}

pub(super) fn path(path: &str) -> Result<PathBuf, String> {
    text(path).map(|()| PathBuf::from(path))
}

pub(super) fn value(value: &[u8]) -> Result<Arc<[u8]>, String> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("{} bytes is above the limit of 1 MiB", value.len()));
    }
    Ok(value.into())
}

pub(super) fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let list: Vec<&str> = text.split(',').map(str::trim).collect();
    if list.iter().any(|e| e.starts_with(MEMORY_SCHEME)) {
        if list.len() > 1 {
            return Err("memory:// stands alone, it can't be one of several endpoints".into());
        }
        if list[0].len() == MEMORY_SCHEME.len() {
            return Err("memory:// needs a name, as in `memory://test`".into());
        }
        return Ok(vec![list[0].to_owned()]);
    }
    list.iter().map(|endpoint| endpoint_of(endpoint)).collect()
}

fn endpoint_of(endpoint: &str) -> Result<String, String> {
    // Before any error that shows the text, since it may hold a password.
    if endpoint.contains('@') {
        return Err("credentials don't belong in an endpoint; use `username` and `password`".into());
    }
    let host = match endpoint.split_once("://") {
        Some(("http" | "https" | "unix", rest)) => rest,
        Some((scheme, _)) => {
            return Err(format!(
                "`{}`: the scheme `{}` is unknown; use http, https or unix",
                shown(endpoint),
                shown(scheme)
            ));
        }
        None => endpoint,
    };
    if endpoint.starts_with("unix://") {
        return Ok(endpoint.to_owned());
    }
    let bad = || format!("`{}` is not host:port", shown(endpoint));
    let (name, port) = host.trim_end_matches('/').rsplit_once(':').ok_or_else(bad)?;
    let port_is_good = port.parse::<u16>().is_ok_and(|p| p > 0);
    if name.is_empty() || !port_is_good || name.contains(['/', ' ', '?', '#']) {
        return Err(bad());
    }
    Ok(endpoint.trim_end_matches('/').to_owned())
}

/// A user's text inside a message: short, and on one line.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        shown.push('…');
    }
    shown
}
