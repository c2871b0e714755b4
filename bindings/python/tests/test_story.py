"""What a program does with a service, a campaign and an observer, on both stores."""

from __future__ import annotations

import threading
import time

import pytest
import tenure
from support import LONG, Place, eventually, names
from tenure import Code, State


def test_one_leads_then_the_other(service: tenure.Service, place: Place) -> None:
    with tenure.Service(**place) as other:
        first = service.campaign("shard", value=b"first")
        first.wait_for_leadership(LONG)
        assert first.is_leader() and first.state == State.LEADER and first.token > 0
        assert 0 < first.remaining() <= 10
        second = other.campaign("shard", value="second")
        eventually(lambda: len(service.candidates("shard")) == 2)
        assert not second.is_leader() and second.token == 0 and second.remaining() == 0
        assert second.state == State.FOLLOWER

        leader = service.leader("shard")
        assert (leader.value, leader.token) == (b"first", first.token)
        assert leader.key.startswith(f"{place['prefix']}shard/".encode()) and leader.lease != 0
        assert [candidate.value for candidate in other.candidates("shard")] == [b"first", b"second"]

        token = first.token
        first.resign()
        assert not first.is_leader() and first.token == 0
        second.wait_for_leadership(LONG)
        assert second.token > token
        second.resign()
        assert service.candidates("shard") == []
        with pytest.raises(tenure.NoLeaderError):
            service.leader("shard")


def test_statuses_tell_the_whole_story(service: tenure.Service) -> None:
    with service.campaign("story", value=b"me\0and\xff") as campaign:
        follower = campaign.next_status(LONG)
        leader = campaign.next_status(LONG)
        assert (follower.state, follower.sequence, follower.token) == (State.FOLLOWER, 1, 0)
        assert (leader.state, leader.sequence, leader.reason) == (State.LEADER, 2, Code.OK)
        assert leader.value == b"me\0and\xff" and leader.election == "story" == campaign.election
        assert leader.token == campaign.token and leader.cluster_id != 0 and leader.revision >= leader.token
        left_ns = leader.deadline_ns - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        assert 0 < left_ns < 10_000_000_000
        assert not leader.closed and not leader.at_risk and leader.message == ""
    rest = list(campaign)
    assert names(rest) == ["FOLLOWER", "CLOSED"] and rest[-1].closed
    assert list(campaign) == []
    with pytest.raises(tenure.ClosedError):
        campaign.next_status()


def test_an_observer_follows_the_leader(service: tenure.Service) -> None:
    with service.observe("seen") as observer:
        nobody = observer.next_observation(LONG)
        assert nobody.leader is None and nobody.connected and not nobody.closed
        assert (nobody.election, observer.election, nobody.sequence, nobody.reason) == ("seen", "seen", 1, Code.OK)
        with service.campaign("seen", value=b"one") as campaign:
            campaign.wait_for_leadership(LONG)
            somebody = observer.next_observation(LONG)
            assert somebody.leader == service.leader("seen") and somebody.revision > nobody.revision
            assert somebody.leader is not None and somebody.leader.token == campaign.token
            campaign.proclaim(b"two")
            changed = observer.next_observation(LONG)
            assert changed.leader is not None and changed.leader.value == b"two"
            assert changed.cluster_id == somebody.cluster_id != 0
        assert observer.next_observation(LONG).leader is None
        with pytest.raises(tenure.TimeoutError):
            observer.next_observation(0.05)
    last = list(observer)
    assert [observation.closed for observation in last] == [True]
    observer.close()


def test_callbacks_get_what_iteration_would(service: tenure.Service) -> None:
    statuses: list[tenure.Status] = []
    observations: list[tenure.Observation] = []
    threads = set()

    def on_status(status: tenure.Status) -> None:
        threads.add(threading.current_thread())
        statuses.append(status)

    # Nobody but their callbacks refers to these two.
    service.observe("called", on_change=observations.append)
    service.campaign("called", on_status=on_status).wait_for_leadership(LONG)
    # A LEADER that isn't told before its term ends is not told.
    eventually(lambda: len(statuses) == 2 and observations and observations[-1].leader)
    service.resign("called")
    service.close()
    assert names(statuses) == ["FOLLOWER", "LEADER", "FOLLOWER", "CLOSED"]
    assert [status.sequence for status in statuses] == [1, 2, 3, 4]
    assert observations[-1].closed
    assert len(threads) == 1 and threading.current_thread() not in threads


def test_a_value_may_be_any_bytes(service: tenure.Service) -> None:
    for value in (b"", b"a\0b\xff", bytearray(b"x\0"), "a\0b", ""):
        with service.campaign("value", value=value) as campaign:  # type: ignore[arg-type]
            campaign.wait_for_leadership(LONG)
            assert service.leader("value").value == (value.encode() if isinstance(value, str) else value)
        list(campaign)


def test_an_election_without_a_name_is_the_default_one(service: tenure.Service) -> None:
    with service.campaign() as campaign:
        campaign.wait_for_leadership(LONG)
        assert campaign.election == "default" == campaign.next_status().election
        assert service.leader() == service.leader("") == service.leader("default")
        with service.observe() as observer:
            assert observer.next_observation(LONG).leader == service.leader()
        with pytest.raises(tenure.CampaignInProgressError):
            service.campaign("")
        service.resign()
        assert service.candidates() == []


def test_standing_again_after_resigning(service: tenure.Service) -> None:
    tokens = []
    for _ in range(3):
        with service.campaign("again") as campaign:
            campaign.wait_for_leadership(LONG)
            tokens.append(campaign.token)
        list(campaign)
    assert tokens == sorted(set(tokens))


def test_closing_the_service_ends_all(service: tenure.Service) -> None:
    campaign, observer = service.campaign("end"), service.observe("end")
    campaign.wait_for_leadership(LONG)
    service.close()
    assert not campaign.is_leader() and campaign.state == State.CLOSED
    assert names(list(campaign))[-1] == "CLOSED" and list(observer)[-1].closed
    service.close()


def test_objects_say_what_they_are(service: tenure.Service, place: Place) -> None:
    assert repr(service) == f"<tenure.Service {place['prefix']!r}>"
    with service.campaign("x") as campaign, service.observe("x") as observer:
        campaign.wait_for_leadership(LONG)
        assert repr(campaign) == "<tenure.Campaign 'x'>" and repr(observer) == "<tenure.Observer 'x'>"
        assert campaign.service is service is observer.service
