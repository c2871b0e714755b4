"""Ctrl-C interrupts every wait, and breaks nothing."""

from __future__ import annotations

import signal

from support import ETCD_ENDPOINTS, Etcd, eventually, outcome, python

HEAD = """
import os, sys, threading, time, tenure
etcd, frozen = sys.argv[1:]
def say(text):
    print(text, flush=True)
def frozen_service():
    service = tenure.Service(endpoints=frozen, prefix=f"interrupted-{os.getpid()}/", call_timeout="60s", dial_timeout="60s", ttl="60s")
    campaign = service.campaign("leader")
    campaign.wait_for_leadership(20)
    say("freeze")
    sys.stdin.readline()
    return service, campaign
service = tenure.Service(endpoints=etcd, prefix=f"interrupted-{os.getpid()}/")
leader = service.campaign("x")
leader.wait_for_leadership(20)
other = tenure.Service(endpoints=etcd, prefix=f"interrupted-{os.getpid()}/")
"""

TAIL = """
began = time.monotonic()
try:
    say("waiting")
    wait()
except KeyboardInterrupt:
    say("interrupted")
    assert time.monotonic() - began < 20
    # What was interrupted didn't break anything.
    assert leader.is_leader()
    service.close()
    other.close()
"""

WAITS = {
    "wait_for_leadership": "campaign = other.campaign('x'); wait = campaign.wait_for_leadership",
    "wait_for_leadership, with a timeout": "campaign = other.campaign('x'); wait = lambda: campaign.wait_for_leadership(60)",
    "a status": "campaign = other.campaign('x'); list(map(campaign.next_status, [20])); wait = campaign.next_status",
    "statuses": "campaign = other.campaign('x'); wait = lambda: list(campaign)",
    "an observation, with a timeout": "observer = other.observe('x'); observer.next_observation(20); wait = lambda: observer.next_observation(60)",
    "observations": "observer = other.observe('x'); wait = lambda: list(observer)",
    "a callback that doesn't return": """
forever, called = threading.Event(), threading.Event()
def on_status(status):
    called.set()
    forever.wait(20)
third = tenure.Service(endpoints=etcd, prefix=f"interrupted-{os.getpid()}/")
third.campaign("y", on_status=on_status)
called.wait(20)
wait = lambda: third.close(60)
""",
    "leader": "frozen, campaign = frozen_service(); wait = lambda: frozen.leader('leader', 60)",
    "candidates": "frozen, campaign = frozen_service(); wait = lambda: frozen.candidates('leader')",
    "proclaim": "frozen, campaign = frozen_service(); wait = lambda: campaign.proclaim(b'v', 60)",
    "resign": "frozen, campaign = frozen_service(); wait = campaign.resign",
    "resign_leader": "frozen, campaign = frozen_service(); wait = campaign.resign_leader",
    "resign by name": "frozen, campaign = frozen_service(); wait = lambda: frozen.resign('leader', 60)",
    "close": "frozen, campaign = frozen_service(); wait = lambda: frozen.close(60)",
    "opening": """
say("freeze")
sys.stdin.readline()
wait = lambda: tenure.Service(endpoints=frozen, service="x", dial_timeout="60s")
""",
}


def test_ctrl_c_interrupts_every_wait(etcd: Etcd) -> None:
    children = {
        name: python(HEAD + prepare + TAIL, ETCD_ENDPOINTS, etcd.client, PYTHONWARNINGS="default")
        for name, prepare in WAITS.items()
    }
    # All of them are as far as they get with an etcd that answers, then it doesn't.
    for name, child in children.items():
        assert child.stdout is not None
        line = child.stdout.readline()
        assert line in ("freeze\n", "waiting\n"), (name, line, outcome(child))
    etcd.freeze()
    for name, child in children.items():
        if "freeze" in WAITS[name] or "frozen_service" in WAITS[name]:
            assert child.stdin is not None and child.stdout is not None
            child.stdin.write("go\n")
            child.stdin.flush()
            assert child.stdout.readline() == "waiting\n", (name, outcome(child))
    for name, child in children.items():
        # It may be just about to wait; a program that waits has no way to tell.
        eventually(lambda child=child: thread_waits(child.pid))  # type: ignore[misc]
        child.send_signal(signal.SIGINT)
    for name, child in children.items():
        status, out, err = outcome(child)
        assert status == 0 and out == "interrupted\n", f"{name}: status {status}\n{out}{err}"


def thread_waits(pid: int) -> bool:
    """Whether a process's main thread sleeps."""
    with open(f"/proc/{pid}/task/{pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "S"
