#!/usr/bin/env python3
"""What leadership alone can't prevent, and what the fencing token is for.

    fencing.py http://127.0.0.1:2379 /tmp/ledger

A leader asks whether it leads, and is stopped before it acts: by the scheduler, a debugger, a suspended machine. When
it goes on, another has led and written, and the check of before is worth nothing. Only the ledger can tell: it keeps the
highest token that it was written with, and refuses lower ones.

Two processes play this: `first` leads and is stopped (SIGSTOP) between its check and its write, `second` is elected
when the lease of the first is over and writes, then `first` goes on. Ends with 0 if its late write was refused.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import tenure

ELECTED_WITHIN_S = 30
TOKEN_BYTES = 21  # 20 digits and the end of the line


class Refused(Exception):
    """Somebody with a higher token was here."""


# ---- The resource: a file of lines, the first of which is the highest token seen. ----


def append(path: str, token: int, text: str) -> None:
    """Adds a line under a token. The lock makes the check and the write one; a check by the caller would not do."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0) as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        head = ledger.read(TOKEN_BYTES)
        highest = int(head) if len(head) == TOKEN_BYTES else 0
        if token < highest:
            raise Refused(f"token {token} is older than {highest}")
        # The token first, and safe on the disk: a line without it would let an older leader write behind it.
        if token > highest:
            ledger.seek(0)
            ledger.write(b"%020d\n" % token)
            os.fdatasync(ledger.fileno())
        ledger.seek(0, os.SEEK_END)
        ledger.write(f"{token} {text}\n".encode())
        os.fdatasync(ledger.fileno())


# ---- The leaders. ----


def write_line(who: str, path: str, token: int, text: str) -> bool:
    """False: refused."""
    try:
        append(path, token, text)
    except Refused as refusal:
        print(f"{who}: refused, {refusal}")
        return False
    print(f"{who}: wrote with token {token}")
    return True


def be_first(campaign: tenure.Campaign, path: str) -> bool:
    """Leads, looks, and is stopped before it can do what the look allowed."""
    token = campaign.token
    if not write_line("first", path, token, "the first leader was here"):
        return False
    if not campaign.is_leader():
        print("first: lost leadership too early for this example", file=sys.stderr)
        return False
    print("first: is the leader; falls asleep before it acts", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    print("first: awake, and acts on what it knew")
    if write_line("first", path, token, "the first leader is late"):
        return False
    if campaign.is_leader():
        print("first: claims to lead although another does", file=sys.stderr)
        return False
    return True


def be_second(campaign: tenure.Campaign, path: str) -> bool:
    return write_line("second", path, campaign.token, "the second leader was here")


PARTS: dict[str, Callable[[tenure.Campaign, str], bool]] = {"first": be_first, "second": be_second}


def lead(who: str, endpoints: str, path: str) -> bool:
    service = tenure.Service(endpoints=endpoints, service="fencing-example", ttl="2s", value=who)
    with service, service.campaign("ledger") as campaign:
        campaign.wait_for_leadership(ELECTED_WITHIN_S)
        return PARTS[who](campaign, path)


# ---- The play. ----


def start(who: str, endpoints: str, path: str) -> subprocess.Popen[bytes]:
    """Each leader is a process of its own. Nobody is to be left behind asleep, hence setpriv."""
    words = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, __file__, endpoints, path, who]
    return subprocess.Popen(words)


def play(endpoints: str, path: str) -> bool:
    first = start("first", endpoints, path)
    _, status = os.waitpid(first.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        return False
    is_well = start("second", endpoints, path).wait() == 0
    first.send_signal(signal.SIGCONT)
    return first.wait() == 0 and is_well


def main() -> int:
    given = sys.argv[1:]
    if len(given) not in (2, 3) or given[0].startswith("memory:") or given[2:] not in ([], ["first"], ["second"]):
        print(
            "usage: fencing.py ENDPOINTS LEDGER-FILE   (two processes take part, so it needs an etcd)", file=sys.stderr
        )
        return 2
    try:
        if given[2:]:
            return 0 if lead(given[2], given[0], given[1]) else 1
    except (tenure.TenureError, OSError) as error:
        print(f"{given[2]}: {error}", file=sys.stderr)
        return 1
    return 0 if play(*given) else 1


if __name__ == "__main__":
    sys.exit(main())
