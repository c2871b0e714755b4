"""The end of the interpreter, fork, and the garbage collector: nothing hangs, aborts or is left behind.

Each program runs several times, every time in a fresh process: TENURE_TEST_ROUNDS times as often as that variable says.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
import uuid

import pytest
import tenure
from support import ETCD_ENDPOINTS, LONG, Etcd, Place, eventually, names, outcome, python

ROUNDS = int(os.environ.get("TENURE_TEST_ROUNDS", "1"))

# The programs leave services open on purpose, and fork with threads running.
QUIET = {"PYTHONWARNINGS": "ignore::ResourceWarning,ignore::DeprecationWarning"}

HEAD = """
import logging, multiprocessing, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")
import tenure
# On a busy machine it may have something to say.
logging.getLogger("tenure").setLevel(logging.CRITICAL)
endpoints, name = sys.argv[1:]
def opened(**options):
    return tenure.Service(endpoints=endpoints, prefix=name, **options)
def error_of(call):
    try:
        call()
    except tenure.TenureError as error:
        return error.name
"""


def run_often(program: str, endpoints: str = ETCD_ENDPOINTS, status: int = 0, times: int = 4) -> None:
    """Runs a program so many times at once, in each round, and shows that it left no key."""
    with tenure.Service(endpoints=ETCD_ENDPOINTS, prefix="") as service:
        for _ in range(ROUNDS):
            prefixes = [f"process-{uuid.uuid4().hex}/" for _ in range(times)]
            children = [python(HEAD + program, endpoints, prefix, **QUIET) for prefix in prefixes]
            for child, prefix in zip(children, prefixes):
                ended, out, err = outcome(child, 3 * LONG)
                assert (ended, err) == (status, ""), f"status {ended}\n{out}\n{err}"
                assert service.candidates(f"{prefix}x") == []


# Fault 32.
def test_exit_without_closing() -> None:
    run_often("s = opened(); c = s.campaign('x'); c.wait_for_leadership(20); o = s.observe('x')")


def test_exit_right_after_starting() -> None:
    run_often("s = opened(); c = s.campaign('x'); o = s.observe('x')")


def test_exit_while_another_thread_opens() -> None:
    run_often(
        """
from tenure import _puller
entered = threading.Event()
class LateThread(threading.Thread):
    def start(self):
        if self.name == "tenure-events":
            entered.set()
            _puller._ended.wait()
            # As long as closing the service takes, and more.
            time.sleep(0.2)
        super().start()
opening = threading.Thread(target=opened, daemon=True)
threading.Thread = LateThread
opening.start()
entered.wait(20)
""",
    )


def test_exit_inside_a_callback() -> None:
    run_often(
        """
entered = threading.Event()
def on_status(status):
    entered.set()
    if status.state == tenure.State.FOLLOWER:
        while True:
            time.sleep(0.0001)
s = opened()
s.campaign('x', on_status=on_status)
entered.wait(20)
""",
    )


def test_exit_while_callbacks_come_all_the_time() -> None:
    run_often(
        """
seen = []
s = opened(log_level="debug")
c = s.campaign('x')
c.wait_for_leadership(20)
observers = [s.observe('x', on_change=seen.append) for _ in range(20)]
def announce():
    number = 0
    while error_of(lambda: c.proclaim(str(number))) is None:
        number += 1
threading.Thread(target=announce, daemon=True).start()
while len(seen) < 100:
    time.sleep(0.001)
""",
        "memory://x",
    )


def test_exit_while_threads_wait() -> None:
    run_often(
        """
s, t = opened(), opened()
leader = s.campaign('x')
leader.wait_for_leadership(20)
c, o = t.campaign('x'), t.observe('x')
def forever(call):
    try:
        call()
    except tenure.ClosedError:
        pass
for call in (c.wait_for_leadership, lambda: list(c), lambda: list(o), lambda: list(leader)):
    threading.Thread(target=forever, args=(call,), daemon=True).start()
while len(s.candidates('x')) < 2:
    time.sleep(0.001)
""",
    )


def test_exit_by_an_exception_and_by_exit_in_a_callback() -> None:
    run_often("s = opened(); c = s.campaign('x'); c.wait_for_leadership(20); sys.exit(3)", status=3)
    run_often(
        """
done = threading.Event()
def on_status(status):
    if status.state == tenure.State.LEADER:
        done.set()
        os._exit(4)
s = opened()
s.campaign('x', on_status=on_status)
done.wait(20)
time.sleep(20)
""",
        "memory://x",
        status=4,
    )


def test_exit_while_a_service_closes() -> None:
    run_often("s = opened(); c = s.campaign('x'); c.wait_for_leadership(20); del c, s")
    run_often("s = opened(); c = s.campaign('x'); c.wait_for_leadership(20); error_of(lambda: s.close(0))")


def test_exit_with_objects_that_close_what_they_have() -> None:
    run_often(
        """
class Job:
    def __init__(self):
        self.service = opened()
        self.campaign = self.service.campaign('x')
        self.campaign.wait_for_leadership(20)
    def __del__(self):
        self.campaign.resign()
        self.service.close()
job = Job()
def suspended():
    with opened() as service, service.campaign('y'):
        yield
generator = suspended()
next(generator)
""",
    )


def test_exit_of_a_forked_process_of_multiprocessing() -> None:
    run_often(
        """
def work():
    global kept
    service = opened()
    campaign = service.campaign('x')
    campaign.wait_for_leadership(20)
    kept = service, campaign
child = multiprocessing.get_context('fork').Process(target=work)
child.start()
child.join()
sys.exit(child.exitcode)
""",
    )


def test_exit_with_etcd_out_of_reach_is_quick() -> None:
    began = time.monotonic()
    run_often(
        "s = opened(open_offline=True, log_level='off', dial_timeout='100ms', call_timeout='60s'); c = s.campaign('x'); o = s.observe('x')",
        "http://127.0.0.1:1",
    )
    assert time.monotonic() - began < LONG


def test_many_services_in_one_process() -> None:
    run_often(
        """
def resources():
    with open('/proc/self/status') as file:
        status = dict(line.split(':', 1) for line in file)
    return len(os.listdir('/proc/self/fd')), threading.active_count(), int(status['Threads']), int(status['VmRSS'].split()[0])
def once(number):
    with opened() as s:
        with s.campaign('x', on_status=str) as c, s.observe('x') as o:
            c.wait_for_leadership(20)
            s.leader('x'); s.candidates('x')
        with s.campaign('y') as c:
            next(iter(c))
for number in range(20):
    once(number)
before = resources()
for number in range(100):
    once(number)
# A thread that was joined may take a moment to be gone.
until = time.monotonic() + 20
while any(now > then for now, then in zip(resources()[:3], before)) and time.monotonic() < until:
    time.sleep(0.01)
after = resources()
assert all(now <= then for now, then in zip(after[:3], before)), (before, after)
assert after[3] - before[3] < 3000, (before, after)
""",
        "memory://x",
        times=1,
    )


def test_a_dropped_service_closes(place: Place) -> None:
    service = tenure.Service(**place)
    with tenure.Service(**place) as other:
        campaign = service.campaign("x")
        campaign.wait_for_leadership(LONG)
        with pytest.warns(ResourceWarning, match="was not resigned"):
            del campaign
        # A campaign that nobody has any more withdraws; its service lives on.
        eventually(lambda: other.candidates("x") == [])
        campaign = service.campaign("y")
        campaign.wait_for_leadership(LONG)
        with pytest.warns(ResourceWarning, match="was not (closed|resigned)"):
            del service, campaign
        eventually(lambda: other.candidates("y") == [])


def test_dropping_a_service_that_could_not_close_waits_for_nothing(etcd: Etcd) -> None:
    service = tenure.Service(endpoints=etcd.client, prefix="x/", ttl="2s", call_timeout="60s")
    campaign = service.campaign("x")
    campaign.wait_for_leadership(LONG)
    etcd.freeze()
    with pytest.raises(tenure.PendingError):
        service.close(0)
    # All that it has told is read by then, and its thread waits for etcd.
    list(campaign)
    began = time.monotonic()
    del campaign, service
    gc.collect()
    assert time.monotonic() - began < LONG
    etcd.thaw()


def test_a_campaign_keeps_its_service(place: Place) -> None:
    campaign = tenure.Service(**place).campaign("x")
    observer = campaign.service.observe("x")
    gc.collect()
    campaign.wait_for_leadership(LONG)
    assert observer.next_observation(LONG).election == "x"
    campaign.service.close()


def test_what_has_a_callback_lives_by_it(place: Place) -> None:
    told: list[tenure.Status] = []
    tenure.Service(**place).campaign("x", on_status=told.append)
    gc.collect()
    with tenure.Service(**place) as other:
        eventually(lambda: len(told) == 2)
        assert len(other.candidates("x")) == 1
        campaign = other.campaign("x")
        with pytest.raises(tenure.TimeoutError):
            campaign.wait_for_leadership(0.1)
        # Its last reference is in the hands of the pulling thread.
        owner = eventually(
            lambda: [o for o in gc.get_objects() if isinstance(o, tenure.Campaign) and o is not campaign]
        )[0]
        owner.service.close()
        campaign.wait_for_leadership(LONG)
        campaign.resign()
    assert names(told) == ["FOLLOWER", "LEADER", "CLOSED"]


CHILD = """
def child(s, c, o):
    calls = [s.leader, s.candidates, s.campaign, s.observe, s.close, o.close, c.resign, c.resign_leader,
             c.wait_for_leadership, c.next_status, o.next_observation, lambda: c.proclaim(b''), lambda: list(c),
             lambda: list(o), lambda: s.resign('x')]
    names = {error_of(call) for call in calls}
    assert names == {'FORKED'}, names
    assert (c.is_leader(), c.token, c.remaining(), c.state) == (False, 0, 0, tenure.State.NONE)
    with s, c, o:
        pass
    with opened() as own:
        with own.campaign('child') as mine:
            mine.wait_for_leadership(20)
            assert [candidate.token for candidate in own.candidates('child')] == [mine.token]
        assert len(own.candidates('x')) == 1
"""


def test_a_forked_child_owns_nothing_and_may_open_its_own() -> None:
    run_often(
        CHILD
        + """
s = opened()
c, o = s.campaign('x'), s.observe('x')
c.wait_for_leadership(20)
token = c.token
for _ in range(3):
    process = multiprocessing.get_context('fork').Process(target=child, args=(s, c, o))
    process.start()
    process.join(20)
    assert process.exitcode == 0, process.exitcode
    # A child that ends like a program of its own, closing what it has at exit.
    pid = os.fork()
    if pid == 0:
        with s:
            sys.exit(5)
    assert os.waitpid(pid, 0)[1] == 5 << 8
assert c.is_leader() and c.token == token
s.close()
""",
    )


def test_fork_while_other_threads_are_busy() -> None:
    run_often(
        CHILD
        + """
s = opened()
c, o = s.campaign('x'), s.observe('x')
c.wait_for_leadership(20)
ended = threading.Event()
def busy(call):
    while not ended.is_set():
        error_of(call)
for call in (lambda: c.proclaim(b'v'), lambda: o.next_observation(0.01), lambda: c.next_status(0.001)):
    threading.Thread(target=busy, args=(call,)).start()
for _ in range(3):
    process = multiprocessing.get_context('fork').Process(target=child, args=(s, c, o))
    process.start()
    process.join(20)
    assert process.exitcode == 0, process.exitcode
assert c.is_leader()
ended.set()
s.close()
""",
    )


def test_fork_inside_a_callback() -> None:
    run_often(
        """
codes = []
def on_status(status):
    if status.state == tenure.State.LEADER:
        process = multiprocessing.get_context('fork').Process(target=lambda: sys.exit([error_of(s.candidates), error_of(s.close)] != ['FORKED'] * 2))
        process.start()
        process.join(20)
        codes.append(process.exitcode)
with opened() as s:
    c = s.campaign('x', on_status=on_status)
    c.wait_for_leadership(20)
    while not codes:
        time.sleep(0.001)
assert codes == [0]
""",
    )


def test_a_server_that_forks_its_workers() -> None:
    run_often(
        """
def work(number, results):
    with opened(value=str(number)) as s, s.campaign('x') as c:
        c.wait_for_leadership(20)
        results.put((number, c.token))
context = multiprocessing.get_context('fork')
results = context.SimpleQueue()
with opened() as s:
    before = s.candidates('x')
    workers = [context.Process(target=work, args=(number, results)) for number in range(4)]
    for worker in workers:
        worker.start()
    terms = [results.get() for _ in workers]
    for worker in workers:
        worker.join(20)
        assert worker.exitcode == 0
    assert before == [] and s.candidates('x') == []
assert sorted(number for number, _ in terms) == [0, 1, 2, 3]
assert len({token for _, token in terms}) == 4
""",
    )


def test_killed_by_a_signal_it_leaves_the_lease_to_end() -> None:
    child = python(HEAD + "s = opened(ttl='2s'); c = s.campaign('x'); c.wait_for_leadership(20); print(c.token, flush=True); time.sleep(60)",
                   ETCD_ENDPOINTS, prefix := f"process-{uuid.uuid4().hex}/", **QUIET)  # fmt: skip
    assert child.stdout is not None
    token = int(child.stdout.readline())
    with tenure.Service(endpoints=ETCD_ENDPOINTS, prefix=prefix) as service, service.campaign("x") as campaign:
        child.send_signal(signal.SIGKILL)
        assert outcome(child)[0] == -signal.SIGKILL
        campaign.wait_for_leadership(LONG)
        assert campaign.token > token


def test_threads_may_share_everything(service: tenure.Service) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                with service.campaign(f"{number}-{turn}") as campaign:
                    campaign.wait_for_leadership(LONG)
                    assert campaign.is_leader() and service.leader(campaign.election).token == campaign.token
        except BaseException as failure:  # noqa: BLE001 shown below
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert failures == []
    assert os.getpid() == service._pid
