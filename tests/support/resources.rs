//! Ports and folders that no other test of this machine uses.

use std::fs;
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A loopback port, kept for as long as this value lives, also while nobody listens on it.
///
/// It is below the ports that the kernel gives to clients. Else, while a server is down, one of the clients that try to
/// reach it could be given the very port, and would then be connected to itself.
pub struct Port {
    pub number: u16,
    /// The mark for other test processes that the port is taken: it vanishes with this process, however that ends.
    _mark: UnixListener,
}

const PORTS: std::ops::Range<u32> = 10_000..32_000;

impl Port {
    pub fn take() -> Port {
        static NEXT: OnceLock<AtomicU32> = OnceLock::new();
        let next = NEXT.get_or_init(|| AtomicU32::new(process::id().wrapping_mul(97)));
        for _ in PORTS {
            let number = PORTS.start + next.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
            let number = u16::try_from(number).unwrap();
            let name = SocketAddr::from_abstract_name(format!("tenure-test-port-{number}")).unwrap();
            let Ok(_mark) = UnixListener::bind_addr(&name) else { continue };
            // Not by listening there for a moment: what another thread starts meanwhile would, until it runs its program.
            if TcpStream::connect(("127.0.0.1", number)).is_err() {
                return Port { number, _mark };
            }
        }
        panic!("no free port in {PORTS:?}");
    }

    /// `127.0.0.1:port`
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.number)
    }
}

/// A folder in memory where there is one, removed with this value.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static SWEPT: OnceLock<()> = OnceLock::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let memory = Path::new("/dev/shm");
        let parent = if fs::metadata(memory).is_ok_and(|m| !m.permissions().readonly()) {
            memory
        } else {
            Path::new(env!("CARGO_TARGET_TMPDIR"))
        };
        SWEPT.get_or_init(|| sweep(parent));
        let name = format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A server killed a moment ago may still be closing its files; what stays is swept by a later run.
        let _ = fs::remove_dir_all(&self.0);
    }
}

const PREFIX: &str = "tenure-test-";

/// Removes the folders of test processes that are gone: those that were killed, and servers shared by a whole process.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).unwrap().flatten() {
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else { continue };
        let Some((pid, _)) = rest.split_once('-') else { continue };
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
