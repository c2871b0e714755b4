//! TLS: which servers are believed, which are not, and what is said about those.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, io};

use tenure::{Code, Service, State};

use crate::stage::{Settings, assert_says, hold_elections, lead, on_each_version, open, options, refused};
use crate::support::{Identity, Pki, Server};

fn server(pki: &Pki, identity: &Identity) -> Server {
    Server::builder().tls(pki, identity).start()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn elections_are_held_over_tls_on_each_version() {
    on_each_version(|version| {
        let pki = Pki::new();
        let server = Server::builder().version(version).tls(&pki, &pki.server).start();
        hold_elections(&server, &[("endpoints", &server.endpoint()), ("ca_file", text(&pki.authority.certificate))]);
    });
}

#[test]
fn a_server_is_believed_by_each_of_its_names() {
    let pki = Pki::new();
    let server = server(&pki, &pki.server);
    let by_name = server.address().replace("127.0.0.1", "localhost");
    let ca_file = ("ca_file", text(&pki.authority.certificate));
    for endpoint in [server.endpoint(), format!("https://{by_name}"), server.address(), by_name] {
        let service = open(&[("endpoints", &endpoint), ca_file]);
        lead(&service, "names", &[]).campaign.resign(service.call_timeout()).unwrap();
    }
}

#[test]
fn server_name_takes_the_place_of_the_endpoints_host() {
    let pki = Pki::new();
    let server = server(&pki, &pki.misnamed_server);
    let (endpoint, ca_file) = (server.endpoint(), text(&pki.authority.certificate));
    let known: Settings = &[("endpoints", &endpoint), ("ca_file", ca_file)];
    open(&[known, &[("server_name", "elsewhere.example")]].concat());
    let error = refused(known);
    assert_says(&error, Code::Tls, &[&endpoint, "its certificate is for another name", "set server_name"]);
    let error = refused(&[known, &[("server_name", "localhost")]].concat());
    assert_says(&error, Code::Tls, &[&endpoint, "elsewhere.example"]);
}

#[test]
fn a_server_of_an_unknown_authority_is_refused() {
    let pki = Pki::new();
    let server = server(&pki, &pki.other_server);
    let (endpoint, ca_file) = (server.endpoint(), text(&pki.authority.certificate));
    for settings in [
        &[("endpoints", endpoint.as_str()), ("ca_file", ca_file)][..],
        // The authorities that the system trusts.
        &[("endpoints", endpoint.as_str())],
        &[("endpoints", endpoint.as_str()), ("open_offline", "true")],
    ] {
        assert_says(
            &refused(settings),
            Code::Tls,
            &[&endpoint, "signed by no authority that is trusted", "set ca_file"],
        );
    }
    open(&[("endpoints", &endpoint), ("ca_file", text(&pki.other_authority.certificate))]);
}

const ENDPOINT: &str = "TENURE_TEST_ENDPOINT";

/// Another run of a test, in a process of its own that knows this endpoint. Which authorities the system trusts, a variable
/// says.
fn again(test: &str, server: &Server, system: &Path) -> Command {
    let mut again = Command::new(env::current_exe().unwrap());
    again.args([test, "--exact", "--nocapture"]).env(ENDPOINT, server.endpoint());
    again.env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR");
    again
}

#[test]
fn the_authorities_that_the_system_trusts_are_the_default() {
    const NAME: &str = "tls::the_authorities_that_the_system_trusts_are_the_default";
    if let Ok(endpoint) = env::var(ENDPOINT) {
        return println!("{:?}", Service::open(&options(&[("endpoints", &endpoint)])).map(drop));
    }
    let pki = Pki::new();
    let server = server(&pki, &pki.server);
    let nowhere = Path::new("/nowhere/ca.pem");
    for (file, outcome) in [(&*pki.authority.certificate, "Ok(())"), (nowhere, "no authorities that the system trusts")]
    {
        let output = again(NAME, &server, file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(outcome), "{said}");
    }
}

/// Nothing reads the environment once the service is open: a thread of the program may be changing it.
#[test]
fn the_authorities_that_the_system_trusts_are_read_once() {
    const NAME: &str = "tls::the_authorities_that_the_system_trusts_are_read_once";
    if let Ok(endpoint) = env::var(ENDPOINT) {
        let service = open(&[("endpoints", &endpoint)]);
        println!("\nopen");
        let mut line = String::new();
        io::stdin().read_line(&mut line).unwrap();
        let code = service.leader("nobody", Duration::from_secs(30)).unwrap_err().code();
        return println!("\n{}", code.name());
    }
    let pki = Pki::new();
    let server = server(&pki, &pki.server);
    let authorities = pki.authority.certificate.with_file_name("system.pem");
    fs::copy(&pki.authority.certificate, &authorities).unwrap();
    let mut again = again(NAME, &server, &authorities);
    let mut child = again.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line == "open"));
    fs::remove_file(&authorities).unwrap();
    server.restart();
    child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
    assert!(said.any(|line| line == "NO_LEADER"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn each_authority_of_a_bundle_is_believed() {
    let (pki, other) = (Pki::new(), Pki::new());
    let bundle = [fs::read(&pki.authority.certificate).unwrap(), fs::read(&other.authority.certificate).unwrap()];
    fs::write(&pki.authority.certificate, bundle.concat()).unwrap();
    for server in [server(&pki, &pki.server), server(&other, &other.server)] {
        open(&[("endpoints", &server.endpoint()), ("ca_file", text(&pki.authority.certificate))]);
    }
}

#[test]
fn a_server_whose_certificate_has_expired_is_refused() {
    let pki = Pki::new();
    let server = server(&pki, &pki.expired_server);
    let (endpoint, ca_file) = (server.endpoint(), text(&pki.authority.certificate));
    let error = refused(&[("endpoints", &endpoint), ("ca_file", ca_file)]);
    assert_says(&error, Code::Tls, &[&endpoint, "its certificate has expired"]);
}

/// Whatever is wrong with a certificate, no setting makes it right but one that says what to trust.
#[test]
fn a_certificate_that_proves_nothing_is_refused_whatever_the_settings() {
    let pki = Pki::new();
    for (identity, reason) in [
        (&pki.misplaced_server, "its certificate is for another name"),
        (&pki.misnamed_server, "its certificate is for another name"),
        (&pki.early_server, "its certificate is not valid yet"),
        (&pki.expired_server, "its certificate has expired"),
        (&pki.self_signed_server, "signed by no authority that is trusted"),
        (&pki.other_server, "signed by no authority that is trusted"),
    ] {
        let server = server(&pki, identity);
        let (endpoint, ca_file) = (server.endpoint(), text(&pki.authority.certificate));
        let (client, key) = (text(&pki.client.certificate), text(&pki.client.key));
        for more in [
            &[][..],
            &[("open_offline", "true")],
            &[("server_name", "127.0.0.1")],
            &[("cert_file", client), ("key_file", key)],
            &[("username", "ann"), ("password", "open-sesame")],
        ] {
            let error = refused(&[&[("endpoints", &*endpoint), ("ca_file", ca_file)], more].concat());
            assert_says(&error, Code::Tls, &[&endpoint, reason]);
        }
        // What it would be without TLS is no way in either.
        let bare = server.address();
        let error = refused(&[("endpoints", &bare), ("ca_file", ca_file)]);
        assert_says(&error, Code::Tls, &[reason]);
    }
}

/// The leaf is not its own authority, unless it is named as one and says so.
#[test]
fn a_self_signed_server_is_believed_only_when_it_is_named() {
    let pki = Pki::new();
    let server = server(&pki, &pki.self_signed_server);
    let error = refused(&[("endpoints", &server.endpoint())]);
    assert_says(&error, Code::Tls, &["signed by no authority that is trusted"]);
    open(&[("endpoints", &server.endpoint()), ("ca_file", text(&pki.self_signed_server.certificate))]);
}

#[test]
fn no_option_turns_the_check_off_and_none_sends_in_the_clear_what_is_to_be_encrypted() {
    let mut options = tenure::ServiceOptions::new();
    for name in ["insecure", "insecure_skip_verify", "insecure_skip_tls_verify", "skip_verify", "tls", "verify"] {
        assert_eq!(options.set(name, "true").unwrap_err().code(), Code::UnknownOption, "{name}");
    }
    let pki = Pki::new();
    for name in ["ca_file", "server_name"] {
        let value = if name == "ca_file" { text(&pki.authority.certificate) } else { "localhost" };
        let error = refused(&[("endpoints", "http://127.0.0.1:1"), (name, value)]);
        assert_says(&error, Code::InvalidValue, &["http:// would go unencrypted"]);
    }
}

#[test]
fn http_and_https_taken_for_each_other_are_told_apart() {
    on_each_version(|version| {
        let pki = Pki::new();
        let plain = Server::start(version);
        let secure = Server::builder().version(version).tls(&pki, &pki.server).start();
        let endpoint = plain.endpoint().replace("http:", "https:");
        let error = refused(&[("endpoints", &endpoint)]);
        // Up to 3.5 the server may reset the connection, as one does that ends.
        let code = if error.message().contains("reset") { Code::Unavailable } else { Code::Tls };
        assert_says(&error, code, &[&endpoint, "http endpoint"]);
        let endpoint = secure.endpoint().replace("https:", "http:");
        assert_says(&refused(&[("endpoints", &endpoint)]), Code::Unavailable, &[&endpoint, "https endpoint"]);
    });
}

/// Fault 25.
#[test]
fn a_certificate_gone_bad_is_named_when_the_session_is_lost() {
    let pki = Pki::new();
    let server = server(&pki, &pki.server);
    let ca_file = text(&pki.authority.certificate);
    let service = open(&[("endpoints", &server.endpoint()), ("ca_file", ca_file), ("ttl", "5s")]);
    let leader = lead(&service, "expiry", &[("rejoin", "true")]);
    let (good, good_key) = (fs::read(&pki.server.certificate).unwrap(), fs::read(&pki.server.key).unwrap());
    server.kill();
    fs::copy(&pki.expired_server.certificate, &pki.server.certificate).unwrap();
    fs::copy(&pki.expired_server.key, &pki.server.key).unwrap();
    server.restart();
    let loss = leader.expect_loss(Code::SessionExpired);
    assert!(loss.message.contains("expired"), "{loss:?}");
    let error = service.leader("expiry", Duration::from_secs(10)).unwrap_err();
    assert_says(&error, Code::Tls, &["its certificate has expired"]);
    fs::write(&pki.server.certificate, good).unwrap();
    fs::write(&pki.server.key, good_key).unwrap();
    server.restart();
    leader.until(State::Leader);
}
