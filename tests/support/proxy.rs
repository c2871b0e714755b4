//! A loopback proxy between client and server that makes the network fail.
//!
//! For each connection and direction one thread reads and another one writes, so that a delay delays everything alike
//! and doesn't add up.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use super::etcd::Server;
use super::resources::Port;

#[derive(Clone, Copy)]
pub enum Direction {
    ToServer,
    ToClient,
}

impl Direction {
    fn opposite(self) -> Self {
        match self {
            Direction::ToServer => Direction::ToClient,
            Direction::ToClient => Direction::ToServer,
        }
    }
}

/// See the module; its connections end with it.
pub struct Proxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    target: String,
    refuses: bool,
    is_over: bool,
    paths: [Path; 2],
    links: Vec<Arc<Link>>,
    /// All that was read since the last hold began and because of it did not go on.
    held: Vec<u8>,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Default)]
struct Path {
    delay: Duration,
    swallows: bool,
    holds: bool,
}

struct Link {
    client: TcpStream,
    server: TcpStream,
    is_cut: AtomicBool,
}

impl Proxy {
    pub fn to(server: &Server) -> Proxy {
        let port = Port::take();
        let listener = TcpListener::bind(port.address()).unwrap();
        let shared = Arc::new(Shared::default());
        shared.lock().target = server.address();
        let proxy = Proxy { port, shared: shared.clone() };
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.lock().is_over {
                    return;
                }
                shared.link(client);
            }
        });
        proxy
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Connections that live.
    pub fn connections(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// What is read from now on arrives so much later.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change(|state| state.paths[direction as usize].delay = delay);
    }

    /// What is read from now on vanishes, the end of a connection too, while the connections stay.
    pub fn swallow(&self, direction: Direction) {
        self.change(|state| state.paths[direction as usize].swallows = true);
    }

    /// What has not arrived yet waits until [`Proxy::heal`]; a cut makes it vanish.
    pub fn hold(&self, direction: Direction) {
        self.change(|state| {
            state.paths[direction as usize].holds = true;
            state.held.clear();
        });
    }

    /// Whether this text has come since the hold began.
    pub fn is_holding(&self, text: &str) -> bool {
        self.shared.lock().held.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// What was held goes on; nothing else changes.
    pub fn release(&self, direction: Direction) {
        self.change(|state| state.paths[direction as usize].holds = false);
    }

    /// New connections are closed at once.
    pub fn refuse(&self) {
        self.change(|state| state.refuses = true);
    }

    /// Closes all connections.
    pub fn cut(&self) {
        let links = std::mem::take(&mut self.shared.lock().links);
        links.iter().for_each(|link| link.cut());
        self.shared.changed.notify_all();
    }

    /// Nothing fails any more. After [`Proxy::swallow`] cut as well: what vanished doesn't come back.
    pub fn heal(&self) {
        self.change(|state| {
            state.paths = Default::default();
            state.refuses = false;
        });
    }

    /// New connections lead to another server.
    pub fn redirect(&self, server: &Server) {
        self.change(|state| state.target = server.address());
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.is_over = true);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.port.address());
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A client came. Dropping it is what it gets where the proxy refuses, or its server does.
    fn link(self: &Arc<Self>, client: TcpStream) {
        let target = self.lock().target.clone();
        let Ok(server) = TcpStream::connect(target) else { return };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let link = Arc::new(Link { client, server, is_cut: AtomicBool::new(false) });
        let mut state = self.lock();
        if state.refuses || state.is_over {
            return link.cut();
        }
        state.links.push(link.clone());
        drop(state);
        for direction in [Direction::ToServer, Direction::ToClient] {
            let (sender, chunks) = mpsc::channel();
            let (shared, link) = (self.clone(), link.clone());
            let (reader, writer) = (link.clone(), link.clone());
            let writing = shared.clone();
            thread::spawn(move || writing.write(&writer, direction, &chunks));
            thread::spawn(move || {
                let (mut from, _) = reader.ends(direction);
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = from.read(&mut buffer) {
                    let path = shared.read(direction, &buffer[..length]);
                    let chunk = (Instant::now() + path.delay, buffer[..length].to_vec());
                    if !path.swallows && sender.send(chunk).is_err() {
                        return;
                    }
                }
                shared.wait_for_end(&reader, direction);
            });
        }
    }

    fn write(&self, link: &Arc<Link>, direction: Direction, chunks: &Receiver<(Instant, Vec<u8>)>) {
        let (_, mut to) = link.ends(direction);
        for (due, chunk) in chunks {
            if !self.wait(link, direction, due) {
                break;
            }
            if to.write_all(&chunk).is_err() {
                // It has ended, and the other one may have to answer what was held before it gets to know.
                self.wait_for_end(link, direction.opposite());
                break;
            }
        }
        // A side has ended, so this connection has.
        link.cut();
        self.lock().links.retain(|other| !Arc::ptr_eq(other, link));
    }

    /// What is to happen to bytes that came just now.
    fn read(&self, direction: Direction, bytes: &[u8]) -> Path {
        let mut state = self.lock();
        let path = state.paths[direction as usize];
        if path.holds && !path.swallows {
            state.held.extend(bytes);
        }
        path
    }

    /// One side has ended; until the other one gets to know.
    fn wait_for_end(&self, link: &Link, direction: Direction) {
        let swallows =
            |state: &mut State| state.paths[direction as usize].swallows && !link.is_cut.load(Ordering::Acquire);
        drop(self.changed.wait_while(self.lock(), swallows).unwrap());
    }

    /// Until a chunk may go on. False: its connection is cut.
    fn wait(&self, link: &Link, direction: Direction, due: Instant) -> bool {
        let mut state = self.lock();
        loop {
            let holds = state.paths[direction as usize].holds;
            let rest = due.saturating_duration_since(Instant::now());
            if link.is_cut.load(Ordering::Acquire) {
                return false;
            } else if holds {
                state = self.changed.wait(state).unwrap();
            } else if rest.is_zero() {
                return true;
            } else {
                state = self.changed.wait_timeout(state, rest).unwrap().0;
            }
        }
    }
}

impl Link {
    /// Where bytes of this direction come from and go to.
    fn ends(&self, direction: Direction) -> (&TcpStream, &TcpStream) {
        match direction {
            Direction::ToServer => (&self.client, &self.server),
            Direction::ToClient => (&self.server, &self.client),
        }
    }

    fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
        for stream in [&self.client, &self.server] {
            // It may have ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}
