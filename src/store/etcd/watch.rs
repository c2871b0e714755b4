//! A watch stream: requests out, messages in, both at once, because either side may have to wait for the other.

use std::collections::{HashSet, VecDeque};
use std::sync::Mutex;
use std::time::Duration;

use etcd_client::proto::PbWatchResponse;
use etcd_client::{GetOptions, WatchOptions, WatchRequestSender, WatchResponseStream};
use tokio::sync::mpsc;

use super::connection::Connection;
use super::failure::{Advice, Problem, sort};
use super::{convert, lock};
use crate::store::{Failure, Header, StoreError, WatchMessage, WatchRequest};

type Requests = mpsc::UnboundedReceiver<WatchRequest>;
type Messages = mpsc::UnboundedSender<WatchMessage>;

/// A watch that the server has not confirmed yet.
#[derive(Clone)]
struct Creating {
    id: i64,
    key: Vec<u8>,
    end: Vec<u8>,
}

impl Creating {
    /// From now on, without a start revision.
    fn options(&self) -> WatchOptions {
        let options = WatchOptions::new().with_watch_id(self.id);
        if self.end.is_empty() { options } else { options.with_range(self.end.clone()) }
    }
}

struct Stream<'a> {
    connection: &'a Connection,
    /// The token that the stream was opened with, and is judged by for as long as it lives.
    token: u64,
    messages: Messages,
    asked: Mutex<Asked>,
    check_timeout: Duration,
}

#[derive(Default)]
struct Asked {
    /// In the order of the requests, which is the order of the answers: a refusal doesn't name its watch.
    creating: VecDeque<Creating>,
    canceling: HashSet<i64>,
}

/// Runs one stream until it breaks or isn't wanted any more.
pub(super) async fn run(
    connection: &Connection,
    mut requests: Requests,
    messages: Messages,
    check_timeout: Duration,
) -> Problem {
    let stream = Stream { connection, token: connection.token(), messages, asked: Mutex::default(), check_timeout };
    tokio::select! {
        problem = stream.serve(&mut requests) => problem,
        reason = connection.left() => {
            Problem::new(Failure::Unknown, Advice::Stay, format!("the store left this endpoint: {reason}"))
        }
        () = stream.messages.closed() => unwanted(),
    }
}

fn unwanted() -> Problem {
    Problem::new(Failure::Canceled, Advice::Stay, "the watch stream is not wanted any more")
}

impl Stream<'_> {
    async fn serve(&self, requests: &mut Requests) -> Problem {
        let Some((first, progress)) = first_create(requests).await else { return unwanted() };
        let options = first.options();
        let key = first.key.clone();
        lock(&self.asked).creating.push_back(first);
        let (mut sender, receiver) = match self.connection.watch.clone().watch(key, Some(options)).await {
            Ok(stream) => stream.split(),
            Err(error) => return self.refused_stream(Problem::from(error)).await,
        };
        if progress && sender.request_progress().await.is_err() {
            return self.receive(receiver).await;
        }
        // When sending fails then the stream has ended, and the receiving side gets to know why.
        tokio::pin! {
            let sending = self.send(sender, requests);
            let receiving = self.receive(receiver);
        }
        tokio::select! {
            end = &mut sending => match end {
                Sent::Unwanted => unwanted(),
                Sent::Broken => receiving.await,
            },
            problem = &mut receiving => problem,
        }
    }

    async fn send(&self, mut sender: WatchRequestSender, requests: &mut Requests) -> Sent {
        while let Some(request) = requests.recv().await {
            let sent = match request {
                WatchRequest::Create { id, key, end } => {
                    let creating = Creating { id, key: key.clone(), end };
                    let options = creating.options();
                    lock(&self.asked).creating.push_back(creating);
                    sender.watch(key, Some(options)).await
                }
                WatchRequest::Cancel(id) => {
                    lock(&self.asked).canceling.insert(id);
                    sender.cancel(id).await
                }
                WatchRequest::Progress => sender.request_progress().await,
            };
            if sent.is_err() {
                return Sent::Broken;
            }
        }
        Sent::Unwanted
    }

    async fn receive(&self, mut receiver: WatchResponseStream) -> Problem {
        loop {
            let response = match receiver.message().await {
                Ok(Some(response)) => response.0,
                Ok(None) => return Problem::stream_ended(),
                Err(error) => return self.refused_stream(Problem::from(error)).await,
            };
            if let Err(problem) = self.handle(response).await {
                return problem;
            }
        }
    }

    async fn handle(&self, response: PbWatchResponse) -> Result<(), Problem> {
        let header = convert::header(response.header)?;
        match (response.created, response.canceled) {
            (true, true) => return self.creation_refused(&response).await,
            (true, false) => self.created(response.watch_id, header)?,
            (false, true) => self.canceled(&response),
            (false, false) if response.events.is_empty() => self.tell(WatchMessage::Progress(header)),
            (false, false) => {
                let events = response.events.into_iter().filter_map(convert::event).collect();
                self.tell(WatchMessage::Events { id: response.watch_id, header, events });
            }
        }
        Ok(())
    }

    fn created(&self, id: i64, header: Header) -> Result<(), Problem> {
        self.connection.watch_created();
        let mut asked = lock(&self.asked);
        let Some(position) = asked.creating.iter().position(|creating| creating.id == id) else {
            return Err(Problem::nonsense("the server numbers watches itself: is this etcd's grpc-proxy?"));
        };
        asked.creating.remove(position);
        drop(asked);
        self.tell(WatchMessage::Created { id, header });
        Ok(())
    }

    fn canceled(&self, response: &PbWatchResponse) {
        let id = response.watch_id;
        let asked_for = lock(&self.asked).canceling.remove(&id);
        let problem = if response.compact_revision > 0 {
            Problem::new(Failure::Compacted, Advice::Stay, "etcdserver: mvcc: required revision has been compacted")
        } else if asked_for && response.cancel_reason.is_empty() {
            Problem::new(Failure::Canceled, Advice::Stay, "the watch was cancelled")
        } else {
            refusal(&response.cancel_reason)
        };
        self.end(id, &problem);
    }

    async fn creation_refused(&self, response: &PbWatchResponse) -> Result<(), Problem> {
        let Some(creating) = self.refused_watch(response.watch_id) else { return Ok(()) };
        let mut problem = refusal(&response.cancel_reason);
        if self.connection.has_user() {
            if problem.failure == Failure::PermissionDenied {
                problem = self.check_permission(&creating, problem).await?;
            }
            if problem.advice == Advice::RenewToken {
                return Err(self.renew(problem).await);
            }
        }
        self.end(creating.id, &problem);
        Ok(())
    }

    /// Which watch the server refused: most refusals name none.
    fn refused_watch(&self, id: i64) -> Option<Creating> {
        let mut asked = lock(&self.asked);
        let named = asked.creating.iter().position(|creating| creating.id == id);
        asked.creating.remove(named.unwrap_or(0))
    }

    /// Up to 3.5, etcd denies permission to a watch whose token has expired, too. A read of the same keys tells the
    /// one from the other.
    async fn check_permission(&self, creating: &Creating, denied: Problem) -> Result<Problem, Problem> {
        if self.connection.token() != self.token {
            return Err(reopen("its token is not the current one"));
        }
        let mut options = GetOptions::new().with_serializable().with_count_only().with_limit(1);
        if !creating.end.is_empty() {
            options = options.with_range(creating.end.clone());
        }
        let mut kv = self.connection.kv.clone();
        let read = kv.get(creating.key.clone(), Some(options));
        match tokio::time::timeout(self.check_timeout, read).await {
            Ok(Ok(_)) => Ok(denied),
            Ok(Err(error)) => match Problem::from(error) {
                problem if problem.advice == Advice::Leave => Err(problem),
                problem if problem.advice == Advice::RenewToken => Ok(problem),
                _ => Ok(denied),
            },
            Err(_) => Err(Problem::new(Failure::Unknown, Advice::Leave, "no answer in time")),
        }
    }

    /// The stream's token is refused: only another stream can have another token.
    async fn renew(&self, refused: Problem) -> Problem {
        match tokio::time::timeout(self.check_timeout, self.connection.renew_watch_token(self.token)).await {
            Ok(Ok(true)) => reopen(&refused.reason),
            Ok(Ok(false)) => Problem { failure: Failure::Unauthenticated, advice: Advice::Stay, ..refused },
            Ok(Err(problem)) => problem,
            Err(_) => Problem::new(Failure::Unknown, Advice::Leave, "no fresh token in time"),
        }
    }

    /// The server ended the whole stream, or did not open it.
    async fn refused_stream(&self, problem: Problem) -> Problem {
        if problem.advice == Advice::RenewToken && self.connection.has_user() {
            return self.renew(problem).await;
        }
        problem
    }

    fn end(&self, id: i64, problem: &Problem) {
        let error: StoreError = problem.at(&self.connection.endpoint);
        self.tell(WatchMessage::Canceled { id, error });
    }

    fn tell(&self, message: WatchMessage) {
        // If nobody listens any more then `run` ends the stream.
        let _ = self.messages.send(message);
    }
}

enum Sent {
    /// Nobody will ask for anything any more.
    Unwanted,
    Broken,
}

/// The first watch asked for: a stream starts with one. Also whether a sign of life was asked for before it.
async fn first_create(requests: &mut Requests) -> Option<(Creating, bool)> {
    let mut progress = false;
    loop {
        match requests.recv().await? {
            WatchRequest::Create { id, key, end } => return Some((Creating { id, key, end }, progress)),
            WatchRequest::Progress => progress = true,
            // There is no watch yet to cancel.
            WatchRequest::Cancel(_) => {}
        }
    }
}

fn reopen(reason: &str) -> Problem {
    Problem::new(Failure::Unknown, Advice::Stay, format!("the watch stream needs a fresh token: {reason}"))
}

/// What the text in a watch response means; there is no code with it.
fn refusal(text: &str) -> Problem {
    let (failure, advice) = sort(tonic::Code::InvalidArgument, text);
    let reason = match text.rsplit_once(" desc = ") {
        Some((_, reason)) => reason,
        None if text.is_empty() => "the server ended the watch without saying why",
        None => text,
    };
    Problem::new(failure, advice, reason)
}
