//! Certificates, good and bad, made for the test.

use std::fs;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};

use super::resources::Folder;

/// A certificate and its key, as PEM files.
#[derive(Clone)]
pub struct Identity {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// A certificate authority with all it has issued, and a second one that nobody should trust.
///
/// Each server certificate is for `localhost` and 127.0.0.1, unless its name says otherwise.
pub struct Pki {
    pub authority: Identity,
    pub server: Identity,
    pub client: Identity,
    /// Expired in 2021.
    pub expired_server: Identity,
    pub expired_client: Identity,
    /// For `elsewhere.example` only.
    pub misnamed_server: Identity,
    /// For 127.0.0.2 only.
    pub misplaced_server: Identity,
    /// Valid from 2100 on.
    pub early_server: Identity,
    /// Signed by nobody else.
    pub self_signed_server: Identity,
    pub other_authority: Identity,
    /// As `server`, issued by the other authority.
    pub other_server: Identity,
    pub other_client: Identity,
    folder: Folder,
}

impl Pki {
    pub fn new() -> Pki {
        let folder = Folder::new();
        let ours = Authority::new(&folder, "authority");
        let other = Authority::new(&folder, "other-authority");
        let here: &[&str] = &["localhost", "127.0.0.1"];
        Pki {
            server: ours.issue(&folder, "server", here, false),
            client: ours.issue(&folder, "client", &[], false),
            expired_server: ours.issue(&folder, "expired-server", here, true),
            expired_client: ours.issue(&folder, "expired-client", &[], true),
            misnamed_server: ours.issue(&folder, "misnamed-server", &["elsewhere.example"], false),
            misplaced_server: ours.issue(&folder, "misplaced-server", &["127.0.0.2"], false),
            early_server: ours.issue_from(&folder, "early-server", here, Some((2100, 2101))),
            self_signed_server: self_signed(&folder, "self-signed-server", here),
            other_server: other.issue(&folder, "other-server", here, false),
            other_client: other.issue(&folder, "other-client", &[], false),
            authority: ours.files,
            other_authority: other.files,
            folder,
        }
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    files: Identity,
}

impl Authority {
    fn new(folder: &Folder, name: &str) -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let files = write(folder, name, &params.self_signed(&key).unwrap().pem(), &key);
        Authority { issuer: Issuer::new(params, key), files }
    }

    fn issue(&self, folder: &Folder, name: &str, hosts: &[&str], is_expired: bool) -> Identity {
        self.issue_from(folder, name, hosts, is_expired.then_some((2020, 2021)))
    }

    /// Valid from the beginning of one year to that of another, or for long.
    fn issue_from(&self, folder: &Folder, name: &str, hosts: &[&str], years: Option<(i32, i32)>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = params(name, hosts);
        // A server is its own client as well: etcd's gateway connects to it.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        if let Some((from, to)) = years {
            params.not_before = date_time_ymd(from, 1, 1);
            params.not_after = date_time_ymd(to, 1, 1);
        }
        write(folder, name, &params.signed_by(&key, &self.issuer).unwrap().pem(), &key)
    }
}

fn self_signed(folder: &Folder, name: &str, hosts: &[&str]) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = params(name, hosts);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    write(folder, name, &params.self_signed(&key).unwrap().pem(), &key)
}

fn params(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).into()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn write(folder: &Folder, name: &str, certificate: &str, key: &KeyPair) -> Identity {
    let path = |ending: &str| folder.path().join(format!("{name}.{ending}"));
    let identity = Identity { certificate: path("pem"), key: path("key") };
    fs::write(&identity.certificate, certificate).unwrap();
    fs::write(&identity.key, key.serialize_pem()).unwrap();
    identity
}
