"""What campaigns and observers tell, and who stands for election."""

from __future__ import annotations

from ctypes import sizeof, string_at
from dataclasses import dataclass
from typing import Any

from ._abi import CandidateStruct, EventStruct
from ._codes import Code
from ._library import library_path
from ._numbers import Numbers


class State(Numbers):
    """The state of a campaign."""

    #: None: the campaign belongs to the parent process of a fork.
    NONE = 0
    #: Standing for election, or withdrawn from it: not the leader.
    FOLLOWER = 1
    #: The leader, until the deadline unless renewed.
    LEADER = 2
    #: The candidacy was lost; the reason says why. FOLLOWER follows with `rejoin`, else CLOSED.
    ERROR = 3
    #: The campaign is over; its last status.
    CLOSED = 4


@dataclass(frozen=True)
class Status:
    """A campaign entered a state. It tells what was; `Campaign.is_leader` tells what is."""

    #: Counts the campaign's statuses from 1; a gap means that newer ones took the place of unread ones.
    sequence: int
    #: When the library told it, in nanoseconds of ``time.CLOCK_BOOTTIME``: the difference is how late the reader is.
    time_ns: int
    state: State
    #: Why; `Code.OK` where nothing went wrong.
    reason: Code
    #: The reason as a sentence, empty where nothing went wrong.
    message: str
    election: str
    #: What this candidate announces.
    value: bytes
    #: The fencing token, growing with every term within one cluster; 0 while there is no key.
    token: int
    #: The cluster that the token belongs to; 0 while unknown.
    cluster_id: int
    #: The store's revision that this is based on; 0 where it isn't based on one.
    revision: int
    #: LEADER: until when leadership is certain unless renewed, in nanoseconds of ``time.CLOCK_BOOTTIME``; else 0.
    deadline_ns: int
    #: LEADER: a renewal is overdue, so leadership may end at the deadline. With the option `at_risk` only.
    at_risk: bool

    @property
    def closed(self) -> bool:
        """Whether this is the campaign's last status."""
        return self.state == State.CLOSED


@dataclass(frozen=True)
class Candidate:
    """A leader, or another candidate."""

    #: What it announces.
    value: bytes
    #: Its fencing token.
    token: int
    #: Its key in etcd.
    key: bytes
    #: The lease that its key is attached to; 0 for none.
    lease: int


@dataclass(frozen=True)
class Observation:
    """Who leads an election: a state, not a log; the newest takes the place of unread ones."""

    #: Counts the observer's events from 1; a gap means that newer ones took the place of unread ones.
    sequence: int
    #: When the library told it, in nanoseconds of ``time.CLOCK_BOOTTIME``: the difference is how late the reader is.
    time_ns: int
    election: str
    #: The leader, or nobody.
    leader: Candidate | None
    #: The store's revision at which this was so.
    revision: int
    #: The cluster; 0 while unknown.
    cluster_id: int
    #: False while etcd is out of reach: the leader named is then the last one known.
    connected: bool
    #: The observer's last event.
    closed: bool
    #: Why it isn't connected or was closed; `Code.OK` where nothing went wrong.
    reason: Code
    #: The reason as a sentence.
    message: str


# Enumerations are slow to look up by value, and these two are looked up for every event.
_STATES = {int(state): state for state in State}
_CODES = {int(code): code for code in Code}


def checked(event: Any) -> EventStruct:
    """The event behind a pointer, if it has the fields that this package reads."""
    struct: EventStruct = event.contents
    if struct.struct_size < sizeof(EventStruct):
        raise ImportError(f"tenure: {library_path}: its events are smaller than this package needs; update the library")
    return struct


def text(raw: bytes) -> str:
    """Text of the library: UTF-8."""
    return raw.decode("utf-8", "replace")


def status(event: EventStruct) -> Status:
    """From an event of a campaign."""
    return Status(
        event.sequence,
        event.time_ns,
        _state(event.state),
        _code(event.reason),
        text(event.message),
        text(event.election),
        string_at(event.value, event.value_len),
        event.token,
        event.cluster_id,
        event.revision,
        event.deadline_ns,
        event.at_risk,
    )


def observation(event: EventStruct) -> Observation:
    """From an event of an observer."""
    leader = None
    if event.has_leader:
        value, key = string_at(event.value, event.value_len), string_at(event.key, event.key_len)
        leader = Candidate(value, event.token, key, event.lease)
    return Observation(
        event.sequence,
        event.time_ns,
        text(event.election),
        leader,
        event.revision,
        event.cluster_id,
        event.connected,
        event.closed,
        _code(event.reason),
        text(event.message),
    )


def candidate(pointer: Any) -> Candidate:
    """From a struct of the library, which stays the caller's to free."""
    struct: CandidateStruct = pointer.contents
    if struct.struct_size < sizeof(CandidateStruct):
        raise ImportError(
            f"tenure: {library_path}: its candidates are smaller than this package needs; update the library"
        )
    value, key = string_at(struct.value, struct.value_len), string_at(struct.key, struct.key_len)
    return Candidate(value, struct.token, key, struct.lease)


def _state(number: int) -> State:
    return _STATES[number] if number in _STATES else State(number)


def _code(number: int) -> Code:
    return _CODES[number] if number in _CODES else Code(number)
