"""Waiting: on any thread, in callbacks, on an event loop, and woken by closing."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time

import pytest
import tenure
from support import LONG, Etcd, Place, closes, eventually, names


def test_a_handler_that_does_not_raise_interrupts_nothing(service: tenure.Service, place: Place) -> None:
    heard: list[int] = []
    former = signal.signal(signal.SIGUSR1, lambda number, _: heard.append(number))
    try:
        with tenure.Service(**place) as other, service.campaign("x") as leader:
            leader.wait_for_leadership(LONG)
            with other.campaign("x") as campaign:
                timer = threading.Timer(0.1, lambda: signal.raise_signal(signal.SIGUSR1))
                timer.start()
                resigner = threading.Timer(0.3, leader.resign)
                resigner.start()
                campaign.wait_for_leadership(LONG)
                timer.join()
                resigner.join()
                assert heard == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, former)


def test_closing_wakes_whoever_waits(service: tenure.Service, place: Place) -> None:
    ends: list[str] = []

    def wait(name: str, call: object) -> threading.Thread:
        def run() -> None:
            try:
                call()  # type: ignore[operator]
                ends.append(f"{name}: returned")
            except tenure.TenureError as error:
                ends.append(f"{name}: {error.name}")

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with tenure.Service(**place) as other, other.campaign("x") as leader:
        leader.wait_for_leadership(LONG)
        campaign, observer = service.campaign("x"), service.observe("x")
        threads = [
            wait("leadership", campaign.wait_for_leadership),
            wait("statuses", lambda: list(campaign)),
            wait("observations", lambda: list(observer)),
        ]
        eventually(lambda: len(service.candidates("x")) == 2)
        service.close()
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
    assert sorted(ends) == ["leadership: CLOSED", "observations: returned", "statuses: returned"]


def test_calls_from_callbacks(service: tenure.Service) -> None:
    answers: list[object] = []
    done = threading.Event()

    def on_status(status: tenure.Status) -> None:
        if status.state != tenure.State.LEADER:
            return
        try:
            campaigns[0].wait_for_leadership(LONG)
            answers.append(campaigns[0].is_leader())
            campaigns[0].proclaim(b"from a callback")
            answers.append(service.leader("x").value)
            answers.append(len(service.candidates("x")))
            inner = service.campaign("y")
            inner.wait_for_leadership(LONG)
            inner.resign()
            answers.append(inner.state)
            observer = service.observe("y")
            for waits in (inner.next_status, lambda: inner.next_status(LONG), lambda: list(observer)):
                with pytest.raises(tenure.WrongThreadError):
                    waits()
            with pytest.raises(tenure.TimeoutError):
                observer.next_observation(0)
            observer.close()
            for timeout in (None, 0):
                with pytest.raises(tenure.WrongThreadError):
                    service.close(timeout)
            with pytest.raises(tenure.WrongThreadError), service:
                pass
            service.resign("x")
            answers.append(campaigns[0].is_leader())
        finally:
            done.set()

    campaigns: list[tenure.Campaign] = []
    gate = threading.Event()

    def gated(status: tenure.Status) -> None:
        gate.wait(LONG)
        on_status(status)

    campaigns.append(service.campaign("x", on_status=gated))
    gate.set()
    assert done.wait(LONG)
    assert answers == [True, b"from a callback", 1, tenure.State.CLOSED, False]
    service.close()


def test_a_callback_that_fails_is_told_and_no_more(service: tenure.Service, caplog: pytest.LogCaptureFixture) -> None:
    told: list[tenure.Status] = []

    def on_status(status: tenure.Status) -> None:
        told.append(status)
        raise SystemExit("not from here") if len(told) == 1 else RuntimeError("a mistake")

    service.campaign("x", on_status=on_status).wait_for_leadership(LONG)
    eventually(lambda: len(told) == 2)
    service.close()
    assert names(told) == ["FOLLOWER", "LEADER", "CLOSED"]
    failures = [record for record in caplog.records if record.exc_info]
    assert len(failures) == 3 and all(record.name == "tenure" for record in failures)


def test_what_handles_log_lines_may_fail_and_nothing_else_does(
    service: tenure.Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("no space for log lines")

    told: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: told.append(failure.exc_value))
    logger, broken = logging.getLogger("tenure"), Broken()
    logger.addHandler(broken)
    try:

        def on_status(status: tenure.Status) -> None:
            raise RuntimeError("a mistake")

        with service.campaign("x", on_status=on_status) as first, service.campaign("y") as second:
            first.wait_for_leadership(LONG)
            assert second.next_status(LONG).state == tenure.State.FOLLOWER
            assert second.next_status(LONG).state == tenure.State.LEADER
        service.close()
    finally:
        logger.removeHandler(broken)
    # Three statuses, and maybe log lines of the library's.
    assert len(told) >= 3 and {str(failure) for failure in told} == {"no space for log lines"}


def test_a_slow_callback_delays_no_other_service(memory: str) -> None:
    gate, inside = threading.Event(), threading.Event()

    def slow(status: tenure.Status) -> None:
        inside.set()
        assert gate.wait(LONG)

    with (
        tenure.Service(endpoints=memory, service="x") as slow_one,
        tenure.Service(endpoints=memory, service="x") as other,
    ):
        campaign = slow_one.campaign("x", on_status=slow)
        assert inside.wait(LONG)
        campaign.wait_for_leadership(LONG)
        campaign.resign()
        with other.campaign("x") as next_one:
            assert names([next_one.next_status(LONG), next_one.next_status(LONG)]) == ["FOLLOWER", "LEADER"]
        with pytest.raises(tenure.PendingError, match="callback"):
            slow_one.close(0.05)
        gate.set()


def test_asyncio(service: tenure.Service, place: Place) -> None:
    async def follow() -> list[str]:
        campaign = service.campaign("x")
        seen = []
        async for status in campaign:
            seen.append(status.state.name)
            if status.state == tenure.State.LEADER:
                await asyncio.to_thread(campaign.resign) if hasattr(asyncio, "to_thread") else campaign.resign()
        assert [status async for status in campaign] == []
        return seen

    async def watch(other: tenure.Service) -> list[str]:
        seen = []
        with other.observe("x") as observer:
            async for observation in observer:
                value = observation.leader.value if observation.leader else b"nobody"
                seen.append(value.decode())
                if len(seen) == 3:
                    observer.close()
                elif value == b"nobody":
                    other.campaign("x", value="late", on_status=lambda status: None)
                else:
                    other.resign("x", LONG)
        return seen

    async def main(other: tenure.Service) -> None:
        assert await follow() == ["FOLLOWER", "LEADER", "FOLLOWER", "CLOSED"]
        seen = await asyncio.wait_for(watch(other), LONG)
        assert seen[:3] == ["nobody", "late", "nobody"] and len(seen) <= 5

    with tenure.Service(**place) as other:
        asyncio.run(main(other))


def test_asyncio_cancelled(service: tenure.Service, place: Place) -> None:
    async def read(campaign: tenure.Campaign) -> None:
        async for _ in campaign:
            pass

    async def main(campaign: tenure.Campaign) -> None:
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(read(campaign), 0.005)
        reader = asyncio.ensure_future(read(campaign))
        await asyncio.sleep(0.01)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert campaign._mailbox._wakers == []
        # A loop that ends while its reader waits.
        asyncio.ensure_future(read(campaign))
        await asyncio.sleep(0.01)

    with tenure.Service(**place) as other, other.campaign("x") as leader:
        leader.wait_for_leadership(LONG)
        campaign = service.campaign("x")
        asyncio.run(main(campaign))
        campaign.resign()
        assert names(list(campaign))[-1] == "CLOSED"


def test_an_event_loop_that_is_gone_is_let_go(service: tenure.Service) -> None:
    campaign = service.campaign("x")
    loop = asyncio.new_event_loop()
    wait = loop.create_task(until_closed(campaign))
    loop.run_until_complete(asyncio.sleep(0.01))
    loop._ready.clear()  # type: ignore[attr-defined]
    loop.close()
    campaign.resign()
    assert campaign.state in (tenure.State.CLOSED, tenure.State.FOLLOWER)
    eventually(lambda: campaign.state == tenure.State.CLOSED)
    wait._log_destroy_pending = False  # type: ignore[attr-defined]


async def until_closed(campaign: tenure.Campaign) -> None:
    async for _ in campaign:
        pass


def test_log_lines_go_to_logging(etcd: Etcd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="tenure")
    with tenure.Service(endpoints=etcd.client, service="x", ttl="2s", call_timeout="300ms") as service:
        with service.campaign("x") as campaign:
            campaign.wait_for_leadership(LONG)
            etcd.freeze()
            eventually(lambda: any(record.levelname == "WARNING" for record in caplog.records))
            etcd.thaw()
        # Until the service has found etcd again, there is nothing to be confirmed.
        eventually(lambda: closes(service))
    records = [record for record in caplog.records if record.name == "tenure"]
    assert {"WARNING", "INFO"} <= {record.levelname for record in records}
    assert all(record.getMessage() for record in records)
    caplog.clear()
    caplog.set_level("CRITICAL", logger="tenure")
    with tenure.Service(endpoints=etcd.client, service="x") as service, service.campaign("x") as campaign:
        campaign.wait_for_leadership(LONG)
    with tenure.Service(endpoints=etcd.client, service="x", log_level="off") as service:
        service.candidates("x")
    assert caplog.records == []


def test_times_are_kept(service: tenure.Service, place: Place) -> None:
    with tenure.Service(**place) as other, other.campaign("x") as leader:
        leader.wait_for_leadership(LONG)
        with service.campaign("x") as campaign:
            assert campaign.next_status(LONG).state == tenure.State.FOLLOWER
            # A second and more is waited for in several parts.
            for wait, timeouts in ((campaign.wait_for_leadership, (0, 0.05, 1.1)), (campaign.next_status, (0, 0.05))):
                for timeout in timeouts:
                    began = time.monotonic()
                    with pytest.raises(tenure.TimeoutError):
                        wait(timeout)
                    assert timeout <= time.monotonic() - began + 0.002 < timeout + LONG


def test_waits_on_the_main_thread_share_a_helper(service: tenure.Service) -> None:
    def helpers() -> int:
        return sum(thread.name == "tenure-calls" for thread in threading.enumerate())

    service.candidates("x")
    before = helpers()
    for _ in range(50):
        service.candidates("x")
    assert helpers() == before >= 1
