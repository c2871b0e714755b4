//! Certificate files that are missing or hold nothing usable: said at opening, with the option's name.

use std::fs;
use std::path::Path;

use tenure::Code;

use crate::stage::{assert_says, refused};
use crate::support::{Folder, Pki};

const ENDPOINT: (&str, &str) = ("endpoints", "https://127.0.0.1:1");

struct Files(Folder);

impl Files {
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_unusable_authority_is_named_with_its_option() {
    let (pki, files) = (Pki::new(), Files(Folder::new()));
    let junk = files.write("junk", "no certificate");
    let hollow = files.write("hollow", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let torn = files.write("torn", "-----BEGIN CERTIFICATE-----\nMIIB");
    let empty = files.write("empty", "");
    let folder = files.0.path().to_str().unwrap().to_owned();
    for (file, reason) in [
        (junk.as_str(), "no certificate in PEM form"),
        (&hollow, ""),
        (&torn, ""),
        (&empty, "no certificate in PEM form"),
        (&folder, "directory"),
        ("/nowhere/ca.pem", "No such file"),
        (text(&pki.server.key), "no certificate in PEM form"),
    ] {
        for offline in ["true", "false"] {
            let error = refused(&[ENDPOINT, ("ca_file", file), ("open_offline", offline)]);
            assert_says(&error, Code::InvalidValue, &["ca_file", file, reason]);
        }
    }
}

#[test]
fn an_unusable_client_certificate_or_key_is_named_with_its_option() {
    let (pki, files) = (Pki::new(), Files(Folder::new()));
    let junk = files.write("junk", "neither certificate nor key");
    let locked =
        files.write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let locked_rsa = files.write(
        "locked-rsa",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
    );
    let (certificate, key) = (text(&pki.client.certificate), text(&pki.client.key));
    for (cert_file, key_file, words) in [
        (junk.as_str(), key, ["cert_file", junk.as_str(), "no certificate in PEM form"]),
        ("/nowhere/cert.pem", key, ["cert_file", "/nowhere/cert.pem", "No such file"]),
        (certificate, &junk, ["key_file", &junk, "no key in PEM form"]),
        (certificate, "/nowhere/key.pem", ["key_file", "/nowhere/key.pem", "No such file"]),
        (certificate, &locked, ["key_file", &locked, "the key is encrypted"]),
        (certificate, &locked_rsa, ["key_file", &locked_rsa, "the key is encrypted"]),
        (certificate, certificate, ["key_file", certificate, "no key in PEM form"]),
        // Each is fine, but they are not a pair.
        (certificate, text(&pki.server.key), ["key_file", "cert_file", "do not belong together"]),
    ] {
        let error = refused(&[ENDPOINT, ("cert_file", cert_file), ("key_file", key_file)]);
        assert_says(&error, Code::InvalidValue, &words);
    }
}

#[test]
fn a_server_name_that_no_certificate_can_hold_is_named() {
    for name in ["no name", "-", "a..b"] {
        assert_says(&refused(&[ENDPOINT, ("server_name", name)]), Code::InvalidValue, &["server_name"]);
    }
}

#[test]
fn tls_options_have_no_place_where_there_is_no_tls() {
    let pki = Pki::new();
    for endpoint in ["http://127.0.0.1:1", "unix:///nowhere", "127.0.0.1:1,http://127.0.0.1:2", "memory://files"] {
        let error = refused(&[("endpoints", endpoint), ("ca_file", text(&pki.authority.certificate))]);
        assert_says(&error, Code::InvalidValue, &["endpoint"]);
    }
}

#[test]
fn a_certificate_without_its_key_is_a_contradiction() {
    let pki = Pki::new();
    for (option, other, file) in
        [("cert_file", "key_file", &pki.client.certificate), ("key_file", "cert_file", &pki.client.key)]
    {
        let error = refused(&[ENDPOINT, (option, text(file))]);
        assert_says(&error, Code::InvalidValue, &[option, other, "both or neither"]);
    }
}
