use super::*;

fn read(text: &str, tls_options: bool) -> Result<String, String> {
    parse_all(&[text.to_owned()], tls_options).map(|found| found[0].url.clone()).map_err(|error| error.message)
}

#[test]
fn scheme_follows_the_tls_options_where_none_is_given() {
    for (text, tls_options, url) in [
        ("127.0.0.1:2379", false, "http://127.0.0.1:2379"),
        ("etcd.example:2379", true, "https://etcd.example:2379"),
        ("[::1]:2379", false, "http://[::1]:2379"),
        (" http://a:1/ ", false, "http://a:1"),
        ("https://a:1", false, "https://a:1"),
        ("https://[fe80::1]:1", true, "https://[fe80::1]:1"),
        ("unix:///run/etcd.sock", false, "unix:///run/etcd.sock"),
        ("unix:run/etcd.sock:0", false, "unix://run/etcd.sock:0"),
    ] {
        assert_eq!(read(text, tls_options), Ok(url.to_owned()), "{text}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_a_reason() {
    for (text, tls_options, reason) in [
        ("", false, "endpoint"),
        ("a", false, "not HOST:PORT"),
        ("http://a", false, "not HOST:PORT"),
        (":2379", false, "not HOST:PORT"),
        ("a:99999999", false, "endpoint"),
        ("a b:1", false, "endpoint"),
        ("http://a:1", true, "use https"),
        ("ftp://a:1", false, "\"ftp\" is none of http, https, unix"),
        ("http://a:1/v3", false, "has a path"),
        ("http://a:1?x", false, "has a path"),
        ("unix://", false, "names no socket"),
        ("unix:///a", true, "TLS on a unix socket"),
    ] {
        let message = read(text, tls_options).unwrap_err();
        assert!(message.contains(reason), "{text:?}: {message}");
    }
}

#[test]
fn a_password_in_an_endpoint_is_refused_and_not_repeated() {
    let message = read("http://root:secret@a:1", false).unwrap_err();
    assert!(message.contains("username and password"), "{message}");
    assert!(!message.contains("secret"), "{message}");
}

#[test]
fn no_endpoints_are_refused() {
    assert_eq!(parse_all(&[], false).unwrap_err().failure, Failure::Refused);
}
