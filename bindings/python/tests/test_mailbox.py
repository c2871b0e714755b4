"""What waits to be read: bounded, in order, and without a leader of the past."""

from __future__ import annotations

import threading

import pytest
import tenure
from support import LONG, eventually, names
from tenure import Code, State, Status
from tenure._codes import ClosedError
from tenure._mailbox import KEPT, ObservationMailbox, StatusMailbox


def status(sequence: int, state: State, token: int = 0) -> Status:
    return Status(sequence, 1, state, Code.OK, "", "x", b"", token, 1, 1, 0, False)


def filled(*states: State) -> StatusMailbox:
    mailbox = StatusMailbox(None)
    for sequence, state in enumerate(states, 1):
        mailbox.put(status(sequence, state))
    return mailbox


def read(mailbox: StatusMailbox) -> list[Status]:
    statuses = []
    try:
        while True:
            statuses.append(mailbox.take(0))
    except (tenure.TimeoutError, tenure.ClosedError):
        return statuses


FOLLOWER, LEADER, ERROR, CLOSED = State.FOLLOWER, State.LEADER, State.ERROR, State.CLOSED


def test_what_is_still_true_is_kept() -> None:
    assert names(read(filled(FOLLOWER, LEADER))) == ["FOLLOWER", "LEADER"]


def test_a_term_that_ended_unread_is_not_told() -> None:
    assert names(read(filled(FOLLOWER, LEADER, FOLLOWER, CLOSED))) == ["FOLLOWER", "FOLLOWER", "CLOSED"]
    assert names(read(filled(FOLLOWER, LEADER, ERROR, FOLLOWER, LEADER))) == ["FOLLOWER", "ERROR", "FOLLOWER", "LEADER"]


def test_of_leading_the_latest_news_count() -> None:
    assert [status.sequence for status in read(filled(LEADER, LEADER, LEADER))] == [3]


def test_it_stays_small_and_keeps_the_first_loss_and_the_latest() -> None:
    mailbox = filled(LEADER)
    assert names([mailbox.take(0)]) == ["LEADER"]
    for sequence in range(2, 200):
        mailbox.put(status(sequence, (LEADER, FOLLOWER, ERROR)[sequence % 3]))
    mailbox.put(status(200, CLOSED))
    statuses = read(mailbox)
    assert len(statuses) <= KEPT
    assert statuses[0].sequence == 2 and statuses[-1].state == CLOSED
    assert [status.sequence for status in statuses] == sorted(status.sequence for status in statuses)


def test_of_observations_the_newest_counts(service: tenure.Service) -> None:
    with service.campaign("x") as campaign, service.observe("x") as observer:
        campaign.wait_for_leadership(LONG)
        for value in range(50):
            campaign.proclaim(str(value))

        def newest() -> bool:
            leader = observer.next_observation(LONG).leader
            return leader is not None and leader.value == b"49"

        eventually(newest)
        with pytest.raises(tenure.TimeoutError):
            observer.next_observation(0)


def test_a_leader_of_the_past_is_not_told(service: tenure.Service) -> None:
    campaign = service.campaign("x")
    campaign.wait_for_leadership(LONG)
    campaign.resign()
    statuses = list(campaign)
    assert names(statuses) == ["FOLLOWER", "FOLLOWER", "CLOSED"]
    assert [status.sequence for status in statuses] == [1, 3, 4]


def test_nobody_reads_and_nothing_grows(service: tenure.Service) -> None:
    for _ in range(20):
        with service.campaign("x") as campaign:
            campaign.wait_for_leadership(LONG)
    eventually(lambda: not service._puller._mailboxes)


def test_readers_share_and_each_event_goes_to_one() -> None:
    mailbox = StatusMailbox(None)
    taken: list[int] = []

    def reader() -> None:
        try:
            while True:
                taken.append(mailbox.take(LONG).sequence)
        except ClosedError:
            pass

    threads = [threading.Thread(target=reader) for _ in range(4)]
    for thread in threads:
        thread.start()
    for sequence in range(1, 100):
        mailbox.put(status(sequence, FOLLOWER))
    mailbox.put(status(100, CLOSED))
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()
    assert len(taken) == len(set(taken)) and 100 in taken
    assert mailbox._wakers == []


def test_waiting_in_vain_leaves_nothing() -> None:
    mailbox = ObservationMailbox(None)
    for _ in range(100):
        with pytest.raises(tenure.TimeoutError):
            mailbox.take(0)
    assert mailbox._wakers == []
