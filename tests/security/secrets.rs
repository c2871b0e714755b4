//! Passwords, tokens and private keys appear nowhere: not in log lines of any level, not in errors, events or what
//! `{:?}` shows.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rcgen::KeyPair;
use tenure::{Code, State};

use crate::stage::{BASE, LIMIT, Onlooker, Settings};
use crate::stage::{follow, lead, log, on_each_version, open, options, refused, wait_for_line};
use crate::support::{Folder, Pki, Server};

const PASSWORD: &str = "open-sesame-71";

/// What must not be shown.
struct Secrets(Vec<String>);

impl Secrets {
    /// The password, what a signed token begins with, and each line of a private key.
    fn of(key: &Path) -> Secrets {
        let pem = fs::read_to_string(key).unwrap();
        let lines =
            pem.lines().filter(|line| !line.contains("-----")).map(|line| line[..line.len().min(24)].to_owned());
        let secrets: Vec<String> = lines.chain([PASSWORD, "sesame", "eyJ"].map(str::to_owned)).collect();
        assert!(secrets.len() > 4, "the key has lines");
        Secrets(secrets)
    }

    #[track_caller]
    fn assert_hidden(&self, text: &str) {
        for secret in &self.0 {
            assert!(!text.contains(secret.as_str()), "{secret:?} is in: {text}");
        }
    }
}

#[test]
fn nothing_secret_is_ever_shown() {
    on_each_version(|version| {
        let (pki, folder) = (Pki::new(), Folder::new());
        let (public, private) = (folder.path().join("public.pem"), folder.path().join("private.pem"));
        let signing = KeyPair::generate().unwrap();
        fs::write(&public, signing.public_key_pem()).unwrap();
        fs::write(&private, signing.serialize_pem()).unwrap();
        let tokens =
            format!("jwt,pub-key={},priv-key={},sign-method=ES256,ttl=2s", public.display(), private.display());
        let server = Server::builder().version(version).argument(format!("--auth-token={tokens}"));
        let server = server.argument("--bcrypt-cost=4").mutual_tls(&pki, &pki.server).start();
        server.add_user("ann", PASSWORD);
        server.allow("ann", "readwrite", BASE);
        server.enable_auth();
        let secrets = Secrets::of(&pki.client.key);

        let endpoint = server.endpoint();
        let (certificate, key) = (pki.client.certificate.to_str().unwrap(), pki.client.key.to_str().unwrap());
        let settings: Settings = &[
            ("endpoints", &endpoint),
            ("username", "ann"),
            ("password", PASSWORD),
            ("ca_file", pki.authority.certificate.to_str().unwrap()),
            ("cert_file", certificate),
            ("key_file", key),
            ("log_level", "debug"),
            ("ttl", "60s"),
        ];
        let mut shown = vec![format!("{:?} {:#?}", options(settings), options(settings))];
        let (service, other) = (open(settings), open(settings));
        let (lines, other_lines) = (log(&service), log(&other));
        // A life with everything in it: waiting, tokens that end, a server that comes back, a password that changes.
        let leader = lead(&service, "secret", &[("rejoin", "true")]);
        let follower = follow(&other, "secret");
        let onlooker = Onlooker::observe(&other, "secret");
        shown.push(format!("{:?}", onlooker.until(|seen| seen.leader.is_some())));
        server.restart();
        wait_for_line(&lines, "the watch is opened again");
        leader.campaign.proclaim(b"back", LIMIT).unwrap();
        leader.campaign.resign(LIMIT).unwrap();
        shown.push(format!("{:?}", follower.until(State::Leader)));
        server.change_password("ann", "another-99");
        shown.push(format!("{:?}", service.leader("secret", LIMIT).unwrap_err()));
        shown.push(format!("{:?}", refused(settings)));
        // It may not be able to say good-bye.
        let _ = service.close(Duration::from_secs(1));
        let _ = other.close(Duration::from_secs(1));
        for line in lines.iter().chain(other_lines.iter()) {
            shown.push(line);
        }
        assert!(shown.len() > 6, "little was logged: {shown:?}");
        shown.iter().for_each(|text| secrets.assert_hidden(text));
    });
}

/// Files that are taken for each other, and broken ones, are named, but never quoted.
#[test]
fn errors_about_files_and_options_quote_no_secret() {
    let (pki, folder) = (Pki::new(), Folder::new());
    let key = pki.client.key.to_str().unwrap();
    let certificate = pki.client.certificate.to_str().unwrap();
    let secrets = Secrets::of(&pki.client.key);
    let pem = fs::read_to_string(key).unwrap();
    let broken = folder.path().join("broken.key");
    fs::write(&broken, pem.replace("-----END", "END")).unwrap();
    let torn = folder.path().join("torn.key");
    fs::write(&torn, pem.replacen('A', "\u{e4}", 3)).unwrap();
    let endpoint = ("endpoints", "https://127.0.0.1:1");
    for (certificate, file) in [
        (certificate, broken.as_path()),
        (certificate, torn.as_path()),
        (key, Path::new(key)),
        (certificate, Path::new(certificate)),
    ] {
        let file = file.to_str().unwrap();
        let error = refused(&[endpoint, ("cert_file", certificate), ("key_file", file), ("dial_timeout", "100ms")]);
        secrets.assert_hidden(&format!("{error} {error:?}"));
        assert!(matches!(error.code(), Code::InvalidValue | Code::Unavailable), "{error:?}");
    }
    let error = refused(&[endpoint, ("ca_file", key)]);
    secrets.assert_hidden(&format!("{error} {error:?}"));

    let mut options = tenure::ServiceOptions::new();
    for (name, value) in [
        ("passwrod", PASSWORD),
        ("Password", PASSWORD),
        ("password", &*format!("{PASSWORD}\0")),
        ("password", &*PASSWORD.repeat(100_000)),
        ("endpoints", &*format!("https://ann:{PASSWORD}@127.0.0.1:1")),
    ] {
        if let Err(error) = options.set(name, value) {
            secrets.assert_hidden(&format!("{error} {error:?}"));
        }
    }
    secrets.assert_hidden(&format!("{options:?}"));
}
