#!/usr/bin/env python3
"""As host.c, for Python: the ends of its interpreter, of its threads, and what forks or interrupts it.

usage: host.py ENDING ENVIRONMENT RUN
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from typing import Any, Callable, NoReturn

order: list[str] = []


@atexit.register
def before_the_package_was_imported() -> None:
    """Handlers run in the opposite order: this one after the package's."""
    if order:
        order.append("last")
        print(" ".join(order))


warnings.simplefilter("ignore")
import tenure

logging.getLogger("tenure").setLevel(logging.CRITICAL)
_, ENDING, ENVIRONMENT, RUN = sys.argv
ETCD = os.environ["ETCD_ENDPOINTS"]


def opened(ttl: str = "2s", **options: Any) -> tenure.Service:
    return tenure.Service(
        endpoints=ETCD, service="hosts", environment=ENVIRONMENT, ttl=ttl, **{"call_timeout": 30, **options}
    )


def leading(ttl: str = "2s") -> tuple[tenure.Service, tenure.Campaign]:
    service = opened(ttl)
    # With rejoin: a machine so busy that a short lease is lost only makes it wait.
    campaign = service.campaign("e", rejoin=True)
    campaign.wait_for_leadership(60)
    return service, campaign


def forever() -> NoReturn:
    while True:
        time.sleep(60)


def run_thread(function: Callable[[], object], daemon: bool = False) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=daemon)
    thread.start()
    return thread


def uncaught() -> None:
    leading()
    raise RuntimeError("uncaught")


def uncaught_in_thread() -> None:
    def fail() -> None:
        raise RuntimeError("a thread's")

    leading()
    run_thread(fail).join()


def exit_in_thread() -> None:
    """Ends the thread only."""
    leading()
    run_thread(lambda: sys.exit(3)).join()


def os_exit() -> None:
    leading()
    os._exit(4)


def os_exit_in_thread() -> None:
    leading()
    run_thread(lambda: os._exit(4))
    forever()


def by_signal(number: signal.Signals) -> Callable[[], None]:
    def end() -> None:
        leading()
        if number == signal.SIGINT:
            # Shells ignore it for what runs in the background.
            signal.signal(number, signal.default_int_handler)
        os.kill(os.getpid(), number)
        forever()

    return end


def abort() -> None:
    leading()
    os.abort()


def at_any_time(end: Callable[[], object]) -> Callable[[], None]:
    """While services come and go on two threads."""

    def churn() -> None:
        # At its end the interpreter closes the services under these threads.
        with contextlib.suppress(tenure.ClosedError):
            while True:
                with (
                    opened() as service,
                    service.campaign(f"e-{threading.get_ident()}", on_status=str, rejoin=True) as campaign,
                ):
                    campaign.wait_for_leadership(60)

    def run() -> None:
        for _ in range(2):
            run_thread(churn, daemon=True)
        time.sleep(os.getpid() % 97 / 2000)
        end()

    return run


def daemon_threads_that_wait() -> None:
    """In every call that waits."""
    service, campaign = leading()
    second = opened()
    follower, observer = second.campaign("e"), second.observe("e")
    calls: list[Callable[[], object]] = [
        follower.wait_for_leadership,
        lambda: list(follower),
        lambda: list(observer),
        lambda: list(campaign),
    ]

    def wait(call: Callable[[], object]) -> None:
        try:
            call()
        except tenure.TenureError:
            pass

    for call in calls:
        run_thread(lambda call=call: wait(call), daemon=True)  # type: ignore[misc]
    while len(service.candidates("e")) < 2:
        time.sleep(0.001)


def thread_that_closes_later() -> None:
    """The interpreter waits for it, and only then ends services."""
    service, campaign = leading("30s")

    def close() -> None:
        time.sleep(0.05)
        assert campaign.is_leader()
        service.close()

    run_thread(close)


def atexit_order() -> None:
    """What was registered after the import still has the service; what was registered before has a closed one."""
    _, campaign = leading("30s")

    @atexit.register
    def after_it() -> None:
        order.append(f"leader {campaign.is_leader()}")

    @atexit.register
    def after_that() -> None:
        campaign.proclaim(b"at exit")
        order.append("proclaimed")


def callback_raises() -> None:
    statuses: list[tenure.State] = []

    def on_status(status: tenure.Status) -> None:
        statuses.append(status.state)
        raise SystemExit(7) if status.state == tenure.State.LEADER else RuntimeError("a callback's")

    with opened("30s") as service, service.campaign("e", on_status=on_status) as campaign:
        campaign.wait_for_leadership(60)
    assert statuses[-1] == tenure.State.CLOSED


def callback_blocks_at_exit() -> None:
    """The interpreter's end doesn't wait for it."""
    entered = threading.Event()

    def on_status(status: tenure.Status) -> None:
        entered.set()
        time.sleep(60)

    opened().campaign("e", on_status=on_status)
    entered.wait(60)


def callback_calls_everything() -> None:
    made, called = threading.Event(), threading.Event()

    def on_status(status: tenure.Status) -> None:
        if status.state != tenure.State.LEADER:
            return
        # It may be told before `campaign` has its value.
        made.wait(60)
        try:
            service.close()
        except tenure.WrongThreadError:
            campaign.proclaim(b"inside")
            service.leader("e")
            service.candidates("e")
            with service.campaign("f") as other, service.observe("e") as observer:
                other.wait_for_leadership(60)
                for reader in (other, observer):
                    try:
                        list(reader)
                        return
                    except tenure.WrongThreadError:
                        pass
            campaign.resign()
            called.set()

    with opened("30s") as service:
        campaign = service.campaign("e", on_status=on_status)
        made.set()
        assert called.wait(60)


def close_amid_callbacks() -> None:
    service, campaign = leading("30s")
    seen: list[object] = []
    for _ in range(5):
        service.observe("e", on_change=seen.append)

    def announce() -> None:
        try:
            for number in itertools.count():
                campaign.proclaim(str(number))
        except tenure.TenureError:
            pass

    thread = run_thread(announce)
    while len(seen) < 20:
        time.sleep(0.001)
    service.close()
    told = len(seen)
    thread.join()
    assert len(seen) == told


def check_inherited(service: tenure.Service, campaign: tenure.Campaign) -> None:
    for call in (service.close, lambda: service.leader("e"), campaign.resign, campaign.wait_for_leadership):
        try:
            call()
            raise AssertionError(call)
        except tenure.ForkedError:
            pass
    assert not campaign.is_leader()
    with opened("30s") as own, own.campaign(f"child-{os.getpid()}") as mine:
        mine.wait_for_leadership(60)


def fork_child(child: Callable[[], object]) -> None:
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)  # with the interpreter's whole end
    assert os.waitpid(pid, 0)[1] == 0


def fork_unused() -> None:
    fork_child(lambda: leading("30s")[0].close())
    leading("30s")[0].close()


def fork_leading() -> None:
    service, campaign = leading("30s")
    fork_child(lambda: check_inherited(service, campaign))
    fork_child(lambda: os.execv("/bin/true", ["true"]))
    assert campaign.is_leader()
    service.close()


def fork_following() -> None:
    leader, _ = leading("30s")
    service = opened("30s")
    campaign = service.campaign("e")
    fork_child(lambda: check_inherited(service, campaign))
    leader.close()
    campaign.wait_for_leadership(60)
    service.close()


def fork_in_callback() -> None:
    made = threading.Event()
    forked: list[bool] = []

    def on_status(status: tenure.Status) -> None:
        if status.state == tenure.State.LEADER:
            made.wait(60)
            pid = os.fork()
            if pid == 0:
                check_inherited(service, campaign)
                os._exit(0)
            forked.append(os.waitpid(pid, 0)[1] == 0)

    with opened("30s") as service:
        campaign = service.campaign("e", on_status=on_status)
        made.set()
        campaign.wait_for_leadership(60)
        while not forked:
            time.sleep(0.001)
    assert forked == [True]


def fork_while(act: Callable[[tenure.Service, tenure.Campaign], object]) -> Callable[[], None]:
    def run() -> None:
        service, campaign = leading("30s")
        thread = run_thread(lambda: act(service, campaign))
        time.sleep(os.getpid() % 31 / 10000)
        fork_child(lambda: check_inherited(service, campaign))
        thread.join()
        service.close()

    return run


def multiprocessed(method: str) -> Callable[[], None]:
    def run() -> None:
        service, campaign = leading("30s")
        multiprocessing.set_start_method(method)
        worker = multiprocessing.Process(target=work)
        worker.start()
        worker.join()
        assert worker.exitcode == 0 and campaign.is_leader()
        service.close()

    return run


def work() -> None:
    with opened("30s") as own, own.campaign("worker") as campaign:
        campaign.wait_for_leadership(60)


def interrupted_every_ms() -> None:
    """Calls that wait, under a handler that runs all the time."""
    handled: list[int] = []
    for number, timer in ((signal.SIGALRM, signal.ITIMER_REAL), (signal.SIGPROF, signal.ITIMER_PROF)):
        signal.signal(number, lambda number, _: handled.append(number))
        signal.siginterrupt(number, True)
        signal.setitimer(timer, 0.001, 0.001)
    for _ in range(3):
        with opened("30s") as service, service.campaign("e") as campaign:
            campaign.wait_for_leadership(60)
            campaign.proclaim(b"x")
            assert service.leader("e").value == b"x"
            assert len(service.candidates("e")) == 1
    assert handled
    for number, timer in ((signal.SIGALRM, signal.ITIMER_REAL), (signal.SIGPROF, signal.ITIMER_PROF)):
        signal.setitimer(timer, 0)
        signal.signal(number, signal.SIG_IGN)


def small_stacks() -> None:
    threading.stack_size(64 * 1024)
    failures: list[BaseException] = []

    def use() -> None:
        try:
            with opened("30s") as service, service.campaign("e") as campaign:
                campaign.wait_for_leadership(60)
                service.candidates("e")
        except BaseException as failure:  # noqa: BLE001 shown below
            failures.append(failure)

    run_thread(use).join()
    assert not failures, failures


def try_with(what: int, few: int) -> None:
    """With too few of something there is a clear error or none, and all is well once there is enough."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (few, before[1]))
    try:
        with opened("30s", dial_timeout=2) as service, service.campaign("e") as campaign:
            campaign.wait_for_leadership(60)
    except (tenure.SystemError, tenure.UnavailableError) as error:
        print(error)
    resource.setrlimit(what, before)
    leading("30s")[0].close()


def few_descriptors() -> None:
    spare = os.dup(0)
    os.close(spare)
    try_with(resource.RLIMIT_NOFILE, spare + int(RUN) % 10)


def few_threads() -> None:
    if os.geteuid() == 0:
        # A user of its own, whose threads are counted. The superuser's aren't.
        os.setgroups([])
        user = 2000000 + os.getpid()
        os.setresuid(user, user, user)
    try_with(resource.RLIMIT_NPROC, 1 + int(RUN) % 6)


def closed_streams() -> None:
    for number in range(3):
        os.close(number)
    service, campaign = leading("30s")
    for _ in range(5):
        campaign.proclaim(b"x")
    service.close()
    os._exit(0)


ENDINGS: dict[str, Callable[[], object]] = {
    "return": leading,
    "uncaught": uncaught,
    "uncaught-in-thread": uncaught_in_thread,
    "exit": lambda: (leading(), sys.exit(3)),
    "exit-in-thread": exit_in_thread,
    "os-exit": os_exit,
    "os-exit-in-thread": os_exit_in_thread,
    "os-exit-anytime": at_any_time(lambda: os._exit(4)),
    "exit-anytime": at_any_time(lambda: sys.exit(3)),
    "abort": abort,
    "kill": by_signal(signal.SIGKILL),
    "kill-anytime": at_any_time(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "sigterm": by_signal(signal.SIGTERM),
    "sigint": by_signal(signal.SIGINT),
    "daemon-threads-that-wait": daemon_threads_that_wait,
    "thread-that-closes-later": thread_that_closes_later,
    "atexit-order": atexit_order,
    "callback-raises": callback_raises,
    "callback-blocks-at-exit": callback_blocks_at_exit,
    "callback-calls-everything": callback_calls_everything,
    "close-amid-callbacks": close_amid_callbacks,
    "fork-unused": fork_unused,
    "fork-leading": fork_leading,
    "fork-following": fork_following,
    "fork-callback": fork_in_callback,
    "fork-resigning": fork_while(lambda _, campaign: campaign.resign()),
    "fork-closing": fork_while(lambda service, _: service.close()),
    "fork-opening": fork_while(lambda _, campaign: opened("30s").close()),
    "multiprocessing-fork": multiprocessed("fork"),
    "multiprocessing-spawn": multiprocessed("spawn"),
    "interrupted-every-ms": interrupted_every_ms,
    "small-stacks": small_stacks,
    "closed-streams": closed_streams,
    "few-descriptors": few_descriptors,
    "few-threads": few_threads,
}

if __name__ == "__main__":
    ENDINGS[ENDING]()
