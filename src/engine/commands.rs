//! The way of a program's requests to the service's task, and of the replies back. No reply is lost: whoever waits for
//! one hears of the task's end, too.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::election::{Input, Reply, ReplyId};
use crate::error::{Code, Error};
use crate::events::SubscriptionId;
use crate::sync::commands::{self, error::TrySendError};
use crate::sync::replies::{Receiver, RecvTimeoutError, Sender, channel as reply_channel};

/// Commands that may wait for the task; who has more waits for room.
const MAX_COMMANDS: usize = 8192;

/// Between two looks for room among the commands.
const ROOM_PAUSE: Duration = Duration::from_micros(100);

/// What a program's thread asks of the task.
pub(crate) enum Command {
    /// Something for the engine.
    Input(Input),
    /// The same, with the channel that its reply goes to.
    Ask(ReplyId, Sender<Result<Reply, Error>>, Input),
    /// Who asked this of a campaign does not wait any more.
    Forget(SubscriptionId, ReplyId),
}

/// The programs' end.
pub(crate) struct Commands {
    sender: commands::Sender<Command>,
    last_id: AtomicU64,
}

/// The task's end.
pub(crate) struct Received(commands::Receiver<Command>);

/// Both ends.
pub(crate) fn channel() -> (Commands, Received) {
    let (sender, receiver) = commands::channel(MAX_COMMANDS);
    (Commands { sender, last_id: AtomicU64::new(0) }, Received(receiver))
}

impl Commands {
    /// For a subscription or a reply.
    pub(crate) fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Where the task has not kept up with a flood of calls, the flood waits: else it would fill the memory.
    ///
    /// # Errors
    /// [`Code::Closed`] when the task has ended.
    pub(crate) fn send(&self, mut command: Command) -> Result<(), Error> {
        loop {
            match self.sender.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(_)) => return Err(closed()),
                Err(TrySendError::Full(refused)) => command = refused,
            }
            #[allow(
                clippy::disallowed_methods,
                reason = "the program's thread; the channel's own wait panics in a runtime's"
            )]
            std::thread::sleep(ROOM_PAUSE);
        }
    }

    /// Sends what will be replied to.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub(crate) fn ask(&self, input: impl FnOnce(ReplyId) -> Input) -> Result<Waiting, Error> {
        let (sender, receiver) = reply_channel();
        let reply = self.next_id();
        self.send(Command::Ask(reply, sender, input(reply)))?;
        Ok(Waiting { reply, receiver })
    }
}

impl Received {
    /// The next command; `None` when nobody can send one any more.
    pub(crate) async fn recv(&mut self) -> Option<Command> {
        self.0.recv().await
    }

    /// The task has ended: from here on sending fails, and who waits for a reply is told. Dropping the receiver would
    /// not do: a command that a thread is just putting in would stay there, and its sender wait for ever.
    pub(crate) async fn end(mut self) {
        self.0.close();
        while self.0.recv().await.is_some() {}
    }
}

/// A reply to come.
pub(crate) struct Waiting {
    pub(crate) reply: ReplyId,
    receiver: Receiver<Result<Reply, Error>>,
}

impl Waiting {
    /// Without a timeout the reply comes at once.
    ///
    /// # Errors
    /// The reply's; [`Code::Timeout`]; [`Code::Closed`] when the task ended without a reply.
    pub(crate) fn wait(self, timeout: Option<Duration>) -> Result<Reply, Error> {
        let received = match timeout {
            Some(timeout) => self.receiver.recv_timeout(timeout),
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
        };
        match received {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => Err(Code::Timeout.into()),
            Err(RecvTimeoutError::Disconnected) => Err(closed()),
        }
    }
}

pub(crate) fn closed() -> Error {
    Error::new(Code::Closed, "the service is closed")
}
