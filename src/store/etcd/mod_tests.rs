use super::*;

fn config(endpoints: &[&str]) -> EtcdConfig {
    EtcdConfig { endpoints: endpoints.iter().map(|&text| text.to_owned()).collect(), ..EtcdConfig::default() }
}

fn message(config: EtcdConfig) -> String {
    match Etcd::new(config) {
        Err(error) if error.failure == Failure::Refused => error.message,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("accepted"),
    }
}

/// A directory for one test's files, removed at its end.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("tenure-{test}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Files(dir)
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_password_is_never_shown() {
    let config = EtcdConfig { password: Some("hush".to_owned()), ..config(&["a:1"]) };
    assert!(!format!("{config:?}").contains("hush"));
    assert!(message(config).contains("username is not"));
}

#[test]
fn files_that_hold_nothing_usable_are_refused_by_option_and_name() {
    let files = Files::new("pem");
    let junk = files.write("junk.pem", "no certificate");
    let hollow = files.write("hollow.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let locked =
        files.write("locked.pem", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let missing = files.0.join("missing.pem");
    for (file, reason) in [(&junk, "no certificate"), (&hollow, "ca_file"), (&missing, "No such file")] {
        let text = message(EtcdConfig { ca_file: Some(file.clone()), ..config(&["a:1"]) });
        assert!(text.contains("ca_file") && text.contains(file.to_str().unwrap()) && text.contains(reason), "{text}");
    }
    for (cert, key, reason) in [
        (Some(&junk), Some(&hollow), "cert_file"),
        (Some(&hollow), Some(&junk), "no key in PEM form"),
        (Some(&hollow), Some(&locked), "the key is encrypted"),
        (Some(&hollow), None, "key_file is not"),
        (None, Some(&hollow), "cert_file is not"),
    ] {
        let text = message(EtcdConfig { cert_file: cert.cloned(), key_file: key.cloned(), ..config(&["a:1"]) });
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_server_name_that_is_no_name_is_refused() {
    let text = message(EtcdConfig { server_name: Some("no name".to_owned()), ..config(&["a:1"]) });
    assert!(text.contains("TLS options"), "{text}");
}

#[test]
fn of_several_failures_the_most_telling_counts() {
    let errors =
        |failures: &[Failure]| failures.iter().map(|&failure| StoreError::new(failure, "")).collect::<Vec<_>>();
    assert_eq!(most_telling(&errors(&[Failure::NotSent, Failure::Tls, Failure::Unknown])), Failure::Tls);
    assert_eq!(most_telling(&errors(&[Failure::NotSent, Failure::NotSent])), Failure::NotSent);
}

#[test]
fn only_the_first_failure_of_a_connection_moves_on() {
    let store = Etcd::new(config(&["a:1", "b:1", "c:1"])).unwrap();
    let start = lock(&store.current).index;
    for _ in 0..10 {
        store.leave(0, "failed", None);
    }
    let current = lock(&store.current);
    assert_eq!((current.generation, current.index), (1, (start + 1) % 3));
}

#[tokio::test]
async fn a_probe_names_every_endpoint_and_its_reason() {
    let store = Etcd::new(config(&["127.0.0.1:1", "unix:///nowhere/etcd.sock"])).unwrap();
    let error = store.probe(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.failure, Failure::NotSent);
    assert!(error.message.contains("http://127.0.0.1:1: Connection refused"), "{error}");
    assert!(error.message.contains("unix:///nowhere/etcd.sock: No such file"), "{error}");
}

#[tokio::test]
async fn calls_that_wait_for_one_attempt_share_its_failure() {
    let store = Etcd::new(config(&["127.0.0.1:1", "127.0.0.1:2"])).unwrap();
    let read = || store.range(Range { key: b"k".to_vec(), ..Range::default() }, Duration::from_secs(5));
    let (a, b, c) = tokio::join!(read(), read(), read());
    assert_eq!(a.unwrap_err(), b.unwrap_err());
    assert_eq!(c.unwrap_err().failure, Failure::NotSent);
    assert_eq!(lock(&store.current).generation, 1);
}

/// A member that takes connections and never says a word.
fn mute() -> (std::net::TcpListener, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    (listener, endpoint)
}

#[tokio::test]
async fn a_call_without_time_leaves_a_slow_endpoint_once_and_then_is_patient() {
    let (_listener, endpoint) = mute();
    let dial_timeout = Duration::from_millis(400);
    let store = Etcd::new(EtcdConfig { dial_timeout, ..config(&[&endpoint]) }).unwrap();
    let generation = || lock(&store.current).generation;
    let keep_alive = |ms| store.keep_alive(1, Duration::from_millis(ms));
    assert_eq!(keep_alive(30).await.unwrap_err().failure, Failure::NotSent);
    assert_eq!(generation(), 1);
    assert_eq!(keep_alive(30).await.unwrap_err().failure, Failure::NotSent);
    assert_eq!(keep_alive(30).await.unwrap_err().failure, Failure::NotSent);
    assert_eq!(generation(), 1);
    let error = keep_alive(5000).await.unwrap_err();
    assert_eq!(error.message, format!("http://{endpoint}: not connected within 400ms"));
    assert_eq!(generation(), 2);
}

#[tokio::test]
async fn an_attempt_outlives_the_call_that_began_it() {
    let (listener, endpoint) = mute();
    let store = Etcd::new(config(&[&endpoint])).unwrap();
    for _ in 0..5 {
        store.keep_alive(1, Duration::from_millis(20)).await.unwrap_err();
    }
    listener.set_nonblocking(true).unwrap();
    let connections = std::iter::from_fn(|| listener.accept().ok()).count();
    assert_eq!(connections, 2, "one that was left, one that is still waited for");
}
