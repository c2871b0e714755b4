"""Every mistake and every misfortune raises its documented exception, and changes nothing."""

from __future__ import annotations

import ctypes
import datetime
import pathlib
import pickle
from collections.abc import Iterator
from typing import Any, Callable

import pytest
import tenure
from support import ETCD_ENDPOINTS, LONG, Etcd, Place, closed_campaign, closes, eventually, names
from tenure import _abi, _calls, _codes
from tenure._library import library
from tenure._options import CampaignOptions


def test_each_code_has_its_exception() -> None:
    library.tenure_code_name.restype = ctypes.c_char_p
    library.tenure_code_is_retriable.restype = ctypes.c_bool
    codes = [code for code in tenure.Code if code != tenure.Code.OK]
    assert sorted(_codes.EXCEPTIONS) == codes and len(codes) >= 31
    for code in codes:
        kind = _codes.EXCEPTIONS[code]
        assert (kind.code, kind.name) == (code, code.name) == (code, library.tenure_code_name(code).decode())
        assert kind.retryable == library.tenure_code_is_retriable(code), code
        assert (
            issubclass(kind, tenure.TenureError)
            and kind.__name__.lower() == code.name.replace("_", "").lower() + "error"
        )
        assert getattr(tenure, kind.__name__) is kind and kind.__name__ in tenure.__all__
        assert kind.__doc__


def test_an_exception_can_be_read_and_moved() -> None:
    with pytest.raises(tenure.UnknownOptionError) as caught:
        tenure.Service(tll="5s")  # type: ignore[call-arg]
    error = caught.value
    assert (error.code, error.name, error.retryable) == (tenure.Code.UNKNOWN_OPTION, "UNKNOWN_OPTION", False)
    assert error.message == str(error) and "`tll`" in error.message and "ttl" in error.message
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.message, copy.code) == (type(error), error.message, error.code)
    assert repr(error).startswith("UnknownOptionError('option `tll`")


def test_pythons_own_timeout_error_catches_ours(service: tenure.Service) -> None:
    with service.observe("x") as observer:
        observer.next_observation(LONG)
        with pytest.raises(TimeoutError) as caught:
            observer.next_observation(0)
    assert isinstance(caught.value, tenure.TimeoutError) and caught.value.errno is None
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


def test_a_code_of_a_newer_library_keeps_its_number() -> None:
    struct = _abi.ErrorStruct(ctypes.sizeof(_abi.ErrorStruct), 4711, b"NEW_CODE", b"what is new", True)
    pointer = ctypes.pointer(struct)
    error = _calls.taken(4711, pointer)  # freeing what the library never gave does nothing
    assert type(error) is tenure.TenureError
    assert (error.code, error.name, error.retryable, str(error)) == (4711, "NEW_CODE", True, "what is new")
    assert isinstance(error.code, tenure.Code) and error.code.name == "UNKNOWN"
    assert tenure.State(99).name == "UNKNOWN" and tenure.State(99) == 99
    with pytest.raises(ValueError):
        tenure.Code("x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({}, tenure.InvalidValueError, "`service`"),
        ({"service": "s", "ttl": "1s"}, tenure.InvalidValueError, "`ttl`"),
        ({"service": "s", "ttl": -3}, tenure.InvalidValueError, "`ttl`"),
        ({"service": "s", "ttl": float("nan")}, tenure.InvalidValueError, "`ttl`"),
        ({"service": "s", "ttl": float("inf")}, tenure.InvalidValueError, "`ttl`"),
        ({"service": "s", "ttl": 2.5}, tenure.InvalidValueError, "`ttl`"),
        ({"service": "a\0b"}, tenure.InvalidValueError, "NUL"),
        ({"service": "a\ud800"}, tenure.InvalidValueError, "UTF-8"),
        ({"service": "s", "prefix": "p"}, tenure.InvalidValueError, "`prefix`"),
        ({"service": "s", "events": "callback"}, tenure.InvalidValueError, "`events`"),
        ({"service": "s", "endpoints": []}, tenure.InvalidValueError, "`endpoints`"),
        (
            {"service": "s", "ca_file": "/nonexistent/ca.pem", "endpoints": "https://127.0.0.1:1"},
            tenure.TenureError,
            "ca",
        ),
        ({"service": "s", "a\0b": "1"}, tenure.UnknownOptionError, "NUL"),
        ({"service": "s", "open_offline": "maybe"}, tenure.InvalidValueError, "`open_offline`"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        tenure.Service(**options)


@pytest.mark.parametrize(
    "options",
    [{"service": b"s"}, {"service": 5.0}, {"service": "s", "endpoints": [1]}, {"service": "s", "value": object()},
     {"service": "s", "ca_file": pathlib.PurePath}, {"service": "s", "ttl": b"5s"}],
)  # fmt: skip
def test_options_of_a_wrong_type_are_refused(options: dict[str, Any]) -> None:
    if options == {"service": 5.0}:
        # A number is a duration, and that is no name: the library says so where it isn't one.
        tenure.Service(endpoints="memory://types", **options).close()
        return
    with pytest.raises(TypeError):
        tenure.Service(**options)


def test_options_may_be_written_as_python_writes_them(memory: str) -> None:
    for ttl in ("5s", 5, 5.0, datetime.timedelta(seconds=5)):
        service = tenure.Service(endpoints=[memory], service="x", ttl=ttl, root=None, open_offline=True)
        options: CampaignOptions = {"rejoin": True, "at_risk": False, "wait_limit": 2.5, "step_down_margin": 0}
        with service, service.campaign(**options) as campaign:
            campaign.wait_for_leadership(LONG)
            assert 3 < campaign.remaining() <= 5
    service = tenure.Service(endpoints=memory, service="x", ttl=5)
    with service, pytest.raises(tenure.InvalidValueError, match="step_down_margin"):
        service.campaign(step_down_margin="4s")


def test_names_are_checked(service: tenure.Service) -> None:
    for name in ("a" * 1025, "a\0b", "/a", "a\ud800"):
        for method in (service.campaign, service.observe, service.leader, service.candidates):
            with pytest.raises(tenure.InvalidNameError):
                method(name)
    methods: list[Any] = [service.campaign, service.observe, service.leader, service.candidates, service.resign]
    for method in methods:
        with pytest.raises(TypeError, match="election"):
            method(b"x")


def test_timeouts_are_checked(service: tenure.Service) -> None:
    with service.campaign("x") as campaign, service.observe("x") as observer:
        campaign.wait_for_leadership(LONG)
        waits: list[Callable[[Any], object]] = [
            campaign.wait_for_leadership,
            campaign.resign,
            campaign.resign_leader,
            campaign.next_status,
            lambda timeout: campaign.proclaim(b"", timeout),
            observer.next_observation,
            service.close,
            lambda timeout: service.leader("x", timeout),
            lambda timeout: service.candidates("x", timeout),
            lambda timeout: service.resign("x", timeout),
        ]
        for wait in waits:
            for number in (-1, -0.001, float("nan"), float("inf"), 2**31):
                with pytest.raises(tenure.InvalidArgumentError, match="timeout"):
                    wait(number)
            for other in ("1", True, object()):
                with pytest.raises(TypeError, match="timeout"):
                    wait(other)
        assert campaign.is_leader()


def test_arguments_of_a_wrong_type_are_refused(service: tenure.Service) -> None:
    with pytest.raises(TypeError, match="on_status"):
        service.campaign("x", on_status=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_change"):
        service.observe("x", on_change="f")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="value"):
        service.campaign("x", value=object())  # type: ignore[arg-type]
    with pytest.raises(tenure.UnknownOptionError, match="`ttl`"):
        service.campaign("x", ttl=5)  # type: ignore[call-arg]
    with service.campaign("x") as campaign:
        campaign.wait_for_leadership(LONG)
        with pytest.raises(TypeError, match="value"):
            campaign.proclaim(5)  # type: ignore[arg-type]
        for value in (b"a\0b", bytearray(b"a\0b"), memoryview(b"a\0b"), "a\0b"):
            campaign.proclaim(value)  # type: ignore[arg-type]
            assert service.leader("x").value == b"a\0b"


def test_one_candidacy_for_each_election(service: tenure.Service) -> None:
    with service.campaign("x") as campaign:
        with pytest.raises(tenure.CampaignInProgressError):
            service.campaign("x")
        campaign.wait_for_leadership(LONG)


def test_only_the_leader_may(service: tenure.Service, place: Place) -> None:
    with tenure.Service(**place) as other, service.campaign("x") as leader:
        leader.wait_for_leadership(LONG)
        with other.campaign("x") as follower:
            eventually(lambda: len(service.candidates("x")) == 2)
            with pytest.raises(tenure.NotLeaderError):
                follower.proclaim(b"v")
            with pytest.raises(tenure.NotLeaderError):
                follower.resign_leader()
            with pytest.raises(tenure.TimeoutError):
                follower.wait_for_leadership(0)
            with pytest.raises(tenure.TimeoutError, match="`x`: not the leader within 0.1 s"):
                follower.wait_for_leadership(0.1)
            assert len(service.candidates("x")) == 2
        leader.resign_leader()
        with pytest.raises(tenure.NotLeaderError):
            leader.resign_leader()


def test_a_large_value_is_refused(service: tenure.Service) -> None:
    with pytest.raises(tenure.ValueTooLargeError):
        service.campaign("x", value=bytes(2**20 + 1))
    with service.campaign("x", value=b"small") as campaign:
        campaign.wait_for_leadership(LONG)
        with pytest.raises(tenure.ValueTooLargeError):
            campaign.proclaim(bytes(2**20 + 1))
        campaign.proclaim(bytes(2**20))
        assert service.leader("x").value == bytes(2**20)


def test_nested_elections_collide(service: tenure.Service) -> None:
    with service.campaign("a/b") as inner:
        inner.wait_for_leadership(LONG)
        with pytest.raises(tenure.NameCollisionError):
            service.leader("a")
        with pytest.raises(tenure.NameCollisionError):
            service.candidates("a")
        outer = service.campaign("a")
        with pytest.raises(tenure.NameCollisionError):
            outer.wait_for_leadership(LONG)
        assert [s.reason.name for s in outer if s.state == tenure.State.ERROR] == ["NAME_COLLISION"]


def test_the_wait_limit_ends_a_candidacy(service: tenure.Service, place: Place) -> None:
    with tenure.Service(**place) as other, service.campaign("x") as leader:
        leader.wait_for_leadership(LONG)
        campaign = other.campaign("x", wait_limit=0.1)
        with pytest.raises(tenure.WaitLimitError):
            campaign.wait_for_leadership(LONG)
        assert names(list(campaign)) == ["FOLLOWER", "ERROR", "CLOSED"]
        # The shortest time isn't 0, which would be no limit.
        with pytest.raises(tenure.WaitLimitError):
            other.campaign("x", wait_limit=1e-9).wait_for_leadership(LONG)


def test_what_is_closed_says_so(service: tenure.Service) -> None:
    campaign, observer = closed_campaign(service, "x"), service.observe("x")
    observer.close()
    assert list(observer)[-1].closed
    for call in (
        lambda: campaign.next_status(),
        lambda: campaign.wait_for_leadership(LONG),
        lambda: observer.next_observation(),
    ):
        with pytest.raises(tenure.ClosedError):
            call()
    campaign.resign()
    with pytest.raises(tenure.NotLeaderError):
        campaign.resign_leader()
    with pytest.raises(tenure.NotLeaderError):
        campaign.proclaim(b"")
    assert (campaign.state, campaign.is_leader(), campaign.token, campaign.remaining()) == (
        tenure.State.CLOSED,
        False,
        0,
        0,
    )
    assert list(campaign) == [] and list(observer) == []

    service.close()
    service.close()
    for method in (service.campaign, service.observe, service.leader, service.candidates):
        with pytest.raises(tenure.ClosedError):
            method("x")
    service.resign("x")
    observer.close()


def test_statuses_for_a_callback_are_not_to_be_read(service: tenure.Service) -> None:
    with service.campaign("x", on_status=str) as campaign, service.observe("x", on_change=str) as observer:
        with pytest.raises(tenure.WrongModeError):
            campaign.next_status()
        with pytest.raises(tenure.WrongModeError):
            next(iter(campaign))
        with pytest.raises(tenure.WrongModeError):
            observer.next_observation(0)


def test_nobody_there() -> None:
    nowhere = ["http://127.0.0.1:1", "http://127.0.0.1:2"]
    with pytest.raises(tenure.UnavailableError, match="127.0.0.1:2"):
        tenure.Service(endpoints=nowhere, service="x", dial_timeout="300ms")
    service = tenure.Service(endpoints=nowhere, service="x", open_offline=True, call_timeout="100ms", ttl="2s")
    with pytest.raises((tenure.UnavailableError, tenure.TimeoutError)):
        service.leader("x")
    with service.campaign("x") as campaign, pytest.raises(tenure.TimeoutError):
        campaign.wait_for_leadership(0.1)
    # Who can't ask etcd whether a lease came to be waits until it would be over.
    eventually(lambda: closes(service))


def test_tls_where_there_is_none() -> None:
    with pytest.raises(tenure.TlsError):
        tenure.Service(endpoints=ETCD_ENDPOINTS.replace("http:", "https:"), service="x", dial_timeout="5s")


@pytest.fixture
def guarded(etcd: Etcd) -> Etcd:
    """An etcd with passwords: `root` may all, `guest` nothing."""
    for user in ("root", "guest"):
        etcd.control("user", "add", f"{user}:secret")
    etcd.control("user", "grant-role", "root", "root")
    etcd.control("auth", "enable")
    return etcd


def test_passwords_and_permissions(guarded: Etcd) -> None:
    with pytest.raises(tenure.AuthenticationFailedError) as caught:
        tenure.Service(endpoints=guarded.client, service="x", username="guest", password="wrong-one")
    assert "wrong-one" not in str(caught.value)
    with tenure.Service(endpoints=guarded.client, service="x", username="guest", password="secret") as guest:
        with pytest.raises(tenure.PermissionDeniedError):
            guest.leader("x")
        campaign = guest.campaign("x")
        with pytest.raises(tenure.PermissionDeniedError):
            campaign.wait_for_leadership(LONG)
        assert [s.reason.name for s in campaign if s.state == tenure.State.ERROR] == ["PERMISSION_DENIED"]
    root = tenure.Service(endpoints=guarded.client, service="x", username="root", password="secret")
    with root, root.campaign("x") as campaign:
        campaign.wait_for_leadership(LONG)


@pytest.fixture
def fragile(etcd: Etcd) -> Iterator[tenure.Service]:
    """A service whose etcd the test stops. It may not be able to say good-bye."""
    service = tenure.Service(endpoints=etcd.client, service="x", ttl="2s", call_timeout="300ms")
    yield service
    etcd.thaw()
    eventually(lambda: closes(service))


def losses(campaign: tenure.Campaign) -> list[str]:
    """Why, once it is over."""
    return [status.reason.name for status in campaign if status.state == tenure.State.ERROR]


def test_etcd_falls_silent(fragile: tenure.Service, etcd: Etcd) -> None:
    campaign, waiting = fragile.campaign("x"), fragile.campaign("y", at_risk=True)
    campaign.wait_for_leadership(LONG)
    waiting.wait_for_leadership(LONG)
    etcd.freeze()
    with pytest.raises(tenure.PendingError):
        campaign.resign(0.1)
    assert not campaign.is_leader()
    with pytest.raises((tenure.TimeoutError, tenure.UnavailableError)):
        fragile.leader("x", 0.1)
    with pytest.raises(tenure.PendingError):
        waiting.proclaim(b"v", 0.1)
    assert waiting.is_leader()
    assert losses(waiting) == ["SESSION_EXPIRED"]
    with pytest.raises(tenure.SessionExpiredError) as caught:
        waiting.wait_for_leadership()
    assert caught.value.retryable


def test_a_context_that_fails_keeps_its_own_exception(fragile: tenure.Service, etcd: Etcd) -> None:
    with pytest.raises(ZeroDivisionError), fragile.campaign("x") as campaign:
        campaign.wait_for_leadership(LONG)
        etcd.freeze()
        raise ZeroDivisionError
    with pytest.raises(tenure.PendingError), fragile.campaign("y") as campaign:
        etcd.thaw()
        campaign.wait_for_leadership(LONG)
        etcd.freeze()


def test_an_administrator_removes_the_key(fragile: tenure.Service, etcd: Etcd) -> None:
    campaign = fragile.campaign("x", rejoin=True)
    campaign.wait_for_leadership(LONG)
    first = campaign.token
    assert campaign.next_status().state == tenure.State.FOLLOWER
    assert campaign.next_status().state == tenure.State.LEADER
    etcd.control("del", fragile.leader("x").key.decode())
    lost = campaign.next_status(LONG)
    assert (lost.state.name, lost.reason.name) == ("ERROR", "KEY_DELETED") and lost.message
    campaign.wait_for_leadership(LONG)
    assert campaign.token > first
    lease = fragile.leader("x").lease
    etcd.control("lease", "revoke", f"{lease:x}")
    lost = next(status for status in campaign if status.state == tenure.State.ERROR)
    assert lost.reason == tenure.Code.LEASE_REVOKED
    campaign.resign(LONG)
