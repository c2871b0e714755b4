//! Every option takes what its range says and names itself when refusing.

use super::*;

fn refused(name: &str, value: &str) -> String {
    let error = ServiceOptions::new().set(name, value).unwrap_err();
    assert_eq!(error.code(), Code::InvalidValue);
    assert!(error.message().starts_with(&format!("option `{name}`: ")), "{error}");
    error.message().to_owned()
}

#[test]
fn a_ttl_below_the_minimum_is_refused_with_reason() {
    assert_eq!(refused("ttl", "0"), "option `ttl`: 0 is below etcd's minimum of 2 s");
    assert!(refused("ttl", "25h").contains("maximum of 24 h"));
    assert!(refused("ttl", "2500ms").contains("whole seconds"));
    let mut options = ServiceOptions::new();
    for (text, seconds) in [("2s", 2), ("2000ms", 2), ("1m", 60), ("24h", 86_400)] {
        assert_eq!(options.set("ttl", text).unwrap().ttl, Duration::from_secs(seconds));
    }
}

#[test]
fn durations_need_a_unit_and_do_not_overflow() {
    for text in ["5", "", "s", "-1s", "1.5s", "5 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
        assert!(refused("dial_timeout", text).contains("is not a duration"), "{text}");
    }
}

#[test]
fn ranges_include_their_ends() {
    let mut options = ServiceOptions::new();
    for text in ["10ms", "5m"] {
        options.set("call_timeout", text).unwrap();
    }
    for text in ["9ms", "301s", "0"] {
        assert!(refused("call_timeout", text).contains("outside 10 ms to 5 min"), "{text}");
    }
}

#[test]
fn an_unknown_option_is_not_an_invalid_value() {
    let error = ServiceOptions::new().set("tll", "5s").unwrap_err();
    assert_eq!(error.code(), Code::UnknownOption);
    assert!(error.message().contains("`tll`") && error.message().contains("ttl"));
}

#[test]
fn endpoints_are_checked_one_by_one() {
    let mut options = ServiceOptions::new();
    for good in [
        "http://a:1",
        "https://a:1,https://b:2",
        "a:1",
        "[::1]:2379",
        "http://10.0.0.1:2379/ , http://b:1",
        "memory://x",
    ] {
        options.set("endpoints", good).unwrap();
    }
    for bad in [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "ftp://a:1",
        "http://u:p@a:1",
        "a:1,",
        "memory://",
        "memory://x,a:1",
        "http://a:1/x",
    ] {
        refused("endpoints", bad);
    }
}

#[test]
fn names_that_would_meet_in_one_key_are_refused() {
    for bad in ["", "/a", "a/", "a//b", "a\0b"] {
        refused("service", bad);
    }
    refused("service", &"x".repeat(MAX_NAME_BYTES + 1));
    ServiceOptions::new().set("service", &"x".repeat(MAX_NAME_BYTES)).unwrap();
    ServiceOptions::new().set("environment", "").unwrap();
}

#[test]
fn contradictions_are_found_when_opening() {
    let check = |settings: &[(&str, &str)]| {
        let mut options = ServiceOptions::new();
        for (name, value) in settings {
            options.set(name, value).unwrap();
        }
        options.check().map_err(|e| e.message().to_owned())
    };
    assert!(check(&[]).unwrap_err().contains("`service`"));
    assert!(check(&[("service", "a"), ("prefix", "b/")]).unwrap_err().contains("`prefix`"));
    assert!(check(&[("service", "a"), ("username", "u")]).unwrap_err().contains("`password`"));
    assert!(check(&[("service", "a"), ("cert_file", "c")]).unwrap_err().contains("`key_file`"));
    check(&[("service", "a"), ("endpoints", "https://a:1")]).unwrap();
    assert!(check(&[("service", "a"), ("ca_file", "c")]).unwrap_err().contains("unencrypted"));
    let memory = ("endpoints", "memory://x");
    assert!(check(&[("service", "a"), memory, ("ca_file", "c")]).unwrap_err().contains("memory://"));
    check(&[("service", "a"), memory]).unwrap();
    check(&[("prefix", "")]).unwrap();
}

#[test]
fn a_margin_must_leave_time_to_renew() {
    let mut options = CampaignOptions::new();
    options.set("step_down_margin", "2s").unwrap();
    options.check(Duration::from_secs(6)).unwrap();
    assert_eq!(options.check(Duration::from_secs(5)).unwrap_err().code(), Code::InvalidValue);
}

#[test]
fn debug_output_hides_the_password() {
    let mut options = ServiceOptions::new();
    options.set("username", "u").unwrap().set("password", "hunter2").unwrap();
    assert!(!format!("{options:?}").contains("hunter2"));
}

#[test]
fn refused_text_is_shortened_and_kept_on_one_line() {
    let message = refused("ttl", &format!("\n{}", "x".repeat(10_000)));
    assert!(message.len() < 250 && !message.contains('\n'));
}
