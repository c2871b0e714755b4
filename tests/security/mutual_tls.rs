//! TLS with client certificates: which clients are let in, and certificates that are replaced while somebody waits.

use std::fs;

use tenure::{Code, State};

use crate::stage::{
    LIMIT, Rival, assert_says, follow, hold_elections, lead, log, on_each_version, open, refused, wait_for_line,
};
use crate::support::{Identity, Pki, Server, Version};

fn settings<'a>(endpoint: &'a str, pki: &'a Pki, client: Option<&'a Identity>) -> Vec<(&'a str, &'a str)> {
    let mut settings = vec![("endpoints", endpoint), ("ca_file", pki.authority.certificate.to_str().unwrap())];
    if let Some(client) = client {
        settings.push(("cert_file", client.certificate.to_str().unwrap()));
        settings.push(("key_file", client.key.to_str().unwrap()));
    }
    settings
}

#[test]
fn elections_are_held_with_client_certificates_on_each_version() {
    on_each_version(|version| {
        let pki = Pki::new();
        let server = Server::builder().version(version).mutual_tls(&pki, &pki.server).start();
        hold_elections(&server, &settings(&server.endpoint(), &pki, Some(&pki.client)));
    });
}

#[test]
fn a_client_that_the_server_does_not_accept_is_told_which_options_matter() {
    on_each_version(|version| {
        let pki = Pki::new();
        let server = Server::builder().version(version).mutual_tls(&pki, &pki.server).start();
        let endpoint = server.endpoint();
        for client in [None, Some(&pki.expired_client), Some(&pki.other_client)] {
            for offline in ["true", "false"] {
                let mut settings = settings(&endpoint, &pki, client);
                settings.push(("open_offline", offline));
                let error = refused(&settings);
                assert_says(&error, Code::Tls, &[&endpoint, "client certificate", "cert_file", "key_file"]);
            }
        }
    });
}

/// With TLS 1.2 the server asks for the certificate within the handshake, with 1.3 after it.
#[test]
fn client_certificates_work_with_tls_1_2() {
    let pki = Pki::new();
    let server = Server::builder().version(Version::V37).argument("--tls-max-version=TLS1.2");
    let server = server.mutual_tls(&pki, &pki.server).start();
    let endpoint = server.endpoint();
    hold_elections(&server, &settings(&endpoint, &pki, Some(&pki.client)));
    for client in [None, Some(&pki.expired_client), Some(&pki.other_client)] {
        let error = refused(&settings(&endpoint, &pki, client));
        assert_says(&error, Code::Tls, &[&endpoint, "client certificate", "cert_file", "key_file"]);
    }
}

#[test]
fn a_client_certificate_can_stand_for_a_user() {
    let pki = Pki::new();
    let server = Server::builder().mutual_tls(&pki, &pki.server).start();
    server.add_user("client", "not-used-here");
    server.allow("client", "readwrite", "_ld/shop/");
    server.enable_auth();
    let service = open(&settings(&server.endpoint(), &pki, Some(&pki.client)));
    lead(&service, "named", &[]).campaign.resign(LIMIT).unwrap();
}

/// Another authority, and what it has issued, in place of the first one's files.
fn replace_all(pki: &Pki) {
    for (old, new) in
        [(&pki.authority, &pki.other_authority), (&pki.server, &pki.other_server), (&pki.client, &pki.other_client)]
    {
        fs::copy(&new.certificate, &old.certificate).unwrap();
        fs::copy(&new.key, &old.key).unwrap();
    }
}

/// Fault 25.
#[test]
fn a_follower_waits_on_while_authority_and_certificates_are_replaced() {
    let pki = Pki::new();
    let server = Server::builder().mutual_tls(&pki, &pki.server).start();
    let endpoint = server.endpoint();
    let mut settings = settings(&endpoint, &pki, Some(&pki.client));
    settings.extend([("ttl", "60s"), ("log_level", "warn")]);
    let service = open(&settings);
    let lines = log(&service);
    let rival = Rival::stand(&server, "rotation", 600);
    let follower = follow(&service, "rotation");
    server.kill();
    // Half done: the server has its new files already, the client an unfinished one.
    replace_all(&pki);
    fs::write(&pki.client.key, "").unwrap();
    server.restart();
    wait_for_line(&lines, "no key in PEM form");
    fs::copy(&pki.other_client.key, &pki.client.key).unwrap();
    rival.die();
    follower.expect(State::Leader);
    follower.campaign.resign(LIMIT).unwrap();
    open(&settings);
}
