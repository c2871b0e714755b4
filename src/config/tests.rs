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

/// The lowest and highest that each option takes, and what is just outside.
#[test]
fn every_option_takes_exactly_its_range() {
    let (long, longer) = ("x".repeat(MAX_NAME_BYTES), "x".repeat(MAX_NAME_BYTES + 1));
    let (large, larger) = ("x".repeat(MAX_VALUE_BYTES), "x".repeat(MAX_VALUE_BYTES + 1));
    let names: (&[&str], &[&str]) = (&["a", "a/b", "ä b", &long], &["", "/", "a/", "/a", "a//b", "a\0", &longer]);
    let texts: (&[&str], &[&str]) = (&["a", " ", "ä"], &[""]);
    let durations: (&[&str], &[&str]) = (&["10ms", "5m", "300s", "300000ms"], &["0", "9ms", "300001ms", "6m", "5M"]);
    let booleans: (&[&str], &[&str]) = (&["true", "false"], &["", "True", "yes", "1", "true "]);
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("endpoints", &["a:1", "a:65535", "unix:///a", "memory://a"], &["a:0", "a:65536", "memory://", "unixs:///a"]),
        ("root", names.0, names.1),
        ("environment", &["", "a", "a/b", &long], &["/", "a/", "a\0", &longer]),
        ("service", names.0, names.1),
        ("prefix", &["", "/", "a//b/", &long], &["a\0", &longer]),
        ("ttl", &["2s", "2000ms", "24h", "1440m"], &["0", "1s", "1999ms", "2001ms", "86401s", "25h"]),
        ("username", texts.0, texts.1),
        ("password", texts.0, texts.1),
        ("ca_file", texts.0, texts.1),
        ("cert_file", texts.0, texts.1),
        ("key_file", texts.0, texts.1),
        ("server_name", texts.0, texts.1),
        ("dial_timeout", durations.0, durations.1),
        ("call_timeout", durations.0, durations.1),
        ("open_offline", booleans.0, booleans.1),
        ("value", &["", "a", &large], &[&larger]),
        ("events", &["callback", "pull"], &["", "Pull", "push"]),
        ("log_level", &["off", "error", "warn", "info", "debug"], &["", "trace", "DEBUG"]),
    ];
    assert!(rows.iter().map(|row| row.0).eq(SERVICE.iter().map(|row| row.name)), "an option without a row here");
    for (name, good, bad) in rows {
        for value in *good {
            ServiceOptions::new().set(name, value).unwrap();
        }
        bad.iter().for_each(|value| drop(refused(name, value)));
    }
}

#[test]
fn every_option_of_a_campaign_takes_exactly_its_range() {
    let (large, larger) = ("x".repeat(MAX_VALUE_BYTES), "x".repeat(MAX_VALUE_BYTES + 1));
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("value", &["", &large], &[&larger]),
        ("rejoin", &["true", "false"], &["", "on"]),
        ("at_risk", &["true", "false"], &["", "on"]),
        ("step_down_margin", &["0", "1ms", "8h"], &["", "1", "-1s"]),
        ("wait_limit", &["0", "1ms", "24h"], &["", "86401s", "25h"]),
    ];
    assert!(rows.iter().map(|row| row.0).eq(CAMPAIGN.iter().map(|row| row.name)), "an option without a row here");
    for (name, good, bad) in rows {
        for value in *good {
            CampaignOptions::new().set(name, value).unwrap();
        }
        for value in *bad {
            let error = CampaignOptions::new().set(name, value).unwrap_err();
            assert_eq!(error.code(), Code::InvalidValue);
            assert!(error.message().starts_with(&format!("option `{name}`: ")), "{error}");
        }
    }
}

#[test]
fn a_refused_value_changes_nothing() {
    let mut options = ServiceOptions::new();
    options.set("ttl", "7s").unwrap().set("endpoints", "a:1").unwrap().set("service", "kept").unwrap();
    for (name, bad) in [("ttl", "1s"), ("endpoints", "a:1,b:0"), ("service", "/")] {
        options.set(name, bad).unwrap_err();
    }
    assert_eq!((options.ttl, options.endpoints.as_slice()), (Duration::from_secs(7), &["a:1".to_owned()][..]));
    assert!(matches!(options.namespace(), Namespace::Layout { service, .. } if service == "kept"));
}

#[test]
fn no_error_repeats_a_password() {
    for endpoint in ["http://u:hunter2@a:1", "u:hunter2@a:1", "ftp://u:hunter2@a:1", "a:1,unix://u:hunter2@/a"] {
        assert!(!refused("endpoints", endpoint).contains("hunter2"), "{endpoint}");
    }
}

#[test]
fn an_unknown_option_is_not_an_invalid_value() {
    let error = ServiceOptions::new().set("tll", "5s").unwrap_err();
    assert_eq!(error.code(), Code::UnknownOption);
    assert!(error.message().contains("`tll`") && error.message().contains("ttl"));
}

#[test]
fn an_unknown_name_is_shortened_and_kept_on_one_line() {
    let name = format!("a\nb\r{}", "c".repeat(10_000));
    for error in [ServiceOptions::new().set(&name, "").unwrap_err(), CampaignOptions::new().set(&name, "").unwrap_err()]
    {
        assert!(!error.message().contains(['\n', '\r']) && error.message().len() < 1000, "{error}");
    }
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
    for tls in [&[("ca_file", "c")][..], &[("server_name", "n")], &[("cert_file", "c"), ("key_file", "k")]] {
        let mixed = ("endpoints", "https://a:1,http://b:1");
        assert!(check(&[&[("service", "a"), mixed], tls].concat()).unwrap_err().contains("`endpoints`"), "{tls:?}");
        let memory = ("endpoints", "memory://x");
        assert!(check(&[&[("service", "a"), memory], tls].concat()).unwrap_err().contains("memory://"), "{tls:?}");
    }
    assert!(check(&[("service", "a"), ("password", "p")]).unwrap_err().contains("`username`"));
    assert!(check(&[("service", "a"), ("key_file", "k")]).unwrap_err().contains("`cert_file`"));
    assert!(check(&[("environment", "a")]).unwrap_err().contains("`service`"));
    for part in ["root", "environment", "service"] {
        assert!(check(&[(part, "a"), ("prefix", "b/")]).unwrap_err().contains("`prefix`"), "{part}");
    }
    let memory = ("endpoints", "memory://x");
    assert!(check(&[("service", "a"), memory, ("username", "u"), ("password", "p")]).unwrap_err().contains("no user"));
    check(&[("service", "a"), memory]).unwrap();
    check(&[("prefix", "")]).unwrap();
}

#[test]
fn a_margin_must_leave_time_to_renew() {
    let mut options = CampaignOptions::new();
    options.set("step_down_margin", "2s").unwrap();
    options.check(Duration::from_secs(6)).unwrap();
    let error = options.check(Duration::from_secs(5)).unwrap_err();
    assert_eq!(error.code(), Code::InvalidValue);
    assert!(error.message().contains("`step_down_margin`"), "{error}");
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
