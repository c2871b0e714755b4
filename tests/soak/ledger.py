"""What was seen: claims, losses, times; the invariants that are checked, and how memory and descriptors drift."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from demo import Claim, overlap_ns
from members import Life, now_ns

SECOND = 1_000_000_000
# What an administrator removes is noticed within a round trip, on a machine that may be busy.
NOTICE_NS = SECOND
# For so long after this very program was not run for STALL_S, a loss may be the machine's fault.
STALL_S = 0.4
STALL_COUNTS_NS = 6 * SECOND

OVERLAP = "no two lead at once"
TOKENS = "tokens grow from term to term"
KEYS = "who leads has a key with its token"
GHOSTS = "only living candidates stand"
LIVENESS = "somebody leads soon after each fault"
GAPS = "nobody loses leadership without a fault"
EXITS = "processes end only when told to, and well"
ENDING = "nothing is left in the end"
DRIFT = "memory, threads and descriptors stay flat"
COVER = "every worker led, every kind of fault happened"
INVARIANTS = (OVERLAP, TOKENS, KEYS, GHOSTS, LIVENESS, GAPS, EXITS, ENDING, DRIFT, COVER)


class Ledger:
    """Everything counted."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_ns = int(ttl_s * SECOND)
        self.failures: dict[str, list[str]] = {name: [] for name in INVARIANTS}
        self._told: set[tuple[str, int]] = set()
        self.faults: Counter[str] = Counter()
        self.losses: Counter[str] = Counter()
        self.complaints: Counter[str] = Counter()
        self.last_complaint = ""
        self.terms: Counter[str] = Counter()
        self.at_risk = 0
        self.checks = 0
        # Losses without a fault, while this machine had no time for its programs; and when that was last so.
        self.excused_losses = self.excused_exits = 0
        # Losses within a time to live of a fault's end: the last renewal may have been before the fault.
        self.late_losses = 0
        self.peers_revived = 0
        self.stalled_ns = self.stalls = 0
        self.hand_overs_ns: list[int] = []
        self.take_overs_ns: list[int] = []
        self.recoveries_s: list[float] = []
        self.longest_gap_ns = 0
        # The longest overlap after an administrator has removed a leader's key, which no leader can foresee.
        self.longest_notice_ns = 0
        # Tokens of keys that were removed by an administrator, or before their time by etcd.
        self.removed: set[int] = set()
        # When members that had been stopped went on, and how many terms they ended before their time.
        self._gone_on_ns: list[int] = []
        self.ended_early = 0
        # Why a term ended, by token; nothing for those that were killed.
        self._reasons: dict[int, str] = {}
        self._timed: set[int] = set()
        self._claims: dict[str, dict[int, Claim]] = {}
        self._checked: dict[str, int] = {}
        self._leading: dict[str, set[str]] = {}
        self._last_end_ns: dict[str, int] = {}
        # Since when all is well, as far as can be seen from outside; None while it isn't.
        self._quiet_ns: int | None = None

    def fail(self, invariant: str, what: str, token: int | None = None) -> None:
        """With a token, once for it: claims are compared more than once."""
        if token is None or (invariant, token) not in self._told:
            self.failures[invariant].append(what)
            print(f"{time.strftime('%H:%M:%S')} FAILED: {invariant}: {what}", flush=True)
        if token is not None:
            self._told.add((invariant, token))

    @property
    def has_stalled(self) -> bool:
        """Whether this machine has lately had no time for its programs: a fault like any other, but not ours to end."""
        return now_ns() - self.stalled_ns < STALL_COUNTS_NS

    # What the processes say.

    def complaint(self, who: str, line: str) -> None:
        """A line on stderr. Calls may fail while etcd can't be reached; they are counted by their code."""
        words = line.split(": ")
        self.complaints[": ".join(words[1:3]) if words[0] == "worker" and len(words) > 2 else "other"] += 1
        self.last_complaint = f"{who}: {line}"

    def elected(self, election: str) -> None:
        self.terms[election] += 1

    def lost(self, who: str, token: int, reason: str) -> None:
        self.losses["RESIGNED" if reason == "OK" else reason] += 1
        self._reasons[token] = reason
        if self._calm_ns is None:
            return
        if now_ns() < self._calm_ns:
            self.late_losses += 1
        elif self.has_stalled:
            self.excused_losses += 1
        else:
            self.fail(GAPS, f"{who} lost its term by {reason} while all was well")

    def claim_begins(self, election: str, who: str, time_ns: int) -> None:
        self._note_gap(election, time_ns)
        self._leading.setdefault(election, set()).add(who)

    def claim_ends(self, election: str, who: str, time_ns: int) -> None:
        self._leading.setdefault(election, set()).discard(who)
        self._last_end_ns[election] = max(time_ns, self._last_end_ns.get(election, 0))

    def _note_gap(self, election: str, time_ns: int) -> None:
        if self._calm_ns is not None and not self._leading.get(election):
            since_ns = max(self._calm_ns, self._last_end_ns.get(election, 0))
            self.longest_gap_ns = max(self.longest_gap_ns, time_ns - since_ns)

    def all_is_well(self, since_ns: int) -> None:
        self._quiet_ns = since_ns

    def something_happens(self) -> None:
        for election in self.terms:
            self._note_gap(election, now_ns())
        self._quiet_ns = None

    @property
    def _calm_ns(self) -> int | None:
        """From when on every session has been renewed since the last fault, or has ended."""
        return None if self._quiet_ns is None else self._quiet_ns + self.ttl_ns

    @property
    def is_quiet(self) -> bool:
        return self._quiet_ns is not None

    # Claims, by polling, and what must hold of them.

    def claimed(self, election: str, who: str, token: int, start_ns: int, end_ns: int) -> None:
        claims = self._claims.setdefault(election, {})
        former = claims.get(token)
        if former is not None and former.who != who:
            self.fail(TOKENS, f"{who} and {former.who} have both led {election} with token {token}")
        claims[token] = Claim(who, token, start_ns if former is None else former.start_ns, end_ns)

    def leaders(self) -> set[str]:
        return {claim.who for claims in self._claims.values() for claim in claims.values()}

    def check_claims(self, lives: dict[int, Life], from_the_start: bool = False) -> None:
        """All claims since the last check, and the one before them."""
        self.checks += 1
        if from_the_start:
            self._checked.clear()
        for election, claims in self._claims.items():
            ordered = sorted(claims.values(), key=lambda claim: claim.start_ns)
            new = ordered[self._checked.get(election, 0) :]
            self._checked[election] = max(0, len(ordered) - 2)
            for claim in new:
                self._note_early_end(claim, lives.get(claim.token))
            overlap = overlap_ns(self._foreseen(claim) for claim in new)
            if overlap:
                self.fail(OVERLAP, f"{election}: {overlap} ns: {new}", new[-2].token)
            for former, latter in zip(new, new[1:]):
                if latter.token <= former.token:
                    self.fail(TOKENS, f"{election}: {latter} after {former}", latter.token)
                self._time_change(former, latter)
            for claim in new:
                self._check_key(election, claim, lives.get(claim.token))

    def members_go_on(self) -> None:
        self._gone_on_ns.append(now_ns())

    def _note_early_end(self, claim: Claim, life: Life | None) -> None:
        """A member that was raft's leader when it was stopped may end leases, when it goes on, that others have renewed
        meanwhile: it takes its tick for leadership before it hears of its successor (etcd's issue 15247, not closed in 3.7.3)."""
        if life is None or life.gone_ns is None or claim.end_ns <= life.gone_ns or claim.token in self.removed:
            return
        told = self._reasons.get(claim.token) in (None, "LEASE_REVOKED")
        if told and any(0 <= life.gone_ns - at_ns < SECOND for at_ns in self._gone_on_ns):
            self.ended_early += 1
            self.removed.add(claim.token)

    def _foreseen(self, claim: Claim) -> Claim:
        """The claim without what its leader can't know: that its key has just been removed."""
        end_ns = claim.end_ns - NOTICE_NS if claim.token in self.removed else claim.end_ns
        return claim._replace(end_ns=max(claim.start_ns, end_ns))

    def _time_change(self, former: Claim, latter: Claim) -> None:
        """How long nobody led. A rival's claim is known too roughly."""
        if latter.token not in self._timed and "-peer-" not in former.who + latter.who:
            self._timed.add(latter.token)
            if former.token in self.removed:
                self.longest_notice_ns = max(self.longest_notice_ns, former.end_ns - latter.start_ns)
                return
            is_hand_over = self._reasons.get(former.token) == "OK"
            (self.hand_overs_ns if is_hand_over else self.take_overs_ns).append(latter.start_ns - former.end_ns)

    def _check_key(self, election: str, claim: Claim, life: Life | None) -> None:
        if life is None:
            self.fail(KEYS, f"{election}: {claim}, but no key was ever created at that revision", claim.token)
        elif life.value != claim.who or not life.name.startswith(f"_ld/soak/{election}/"):
            self.fail(KEYS, f"{election}: {claim}, but that is the key {life}", claim.token)
        elif life.gone_ns is not None:
            allowed_ns = life.gone_ns + (NOTICE_NS if claim.token in self.removed else 0)
            if claim.end_ns > allowed_ns:
                self.fail(
                    KEYS,
                    f"{election}: {claim} went on {claim.end_ns - life.gone_ns} ns after its key's end",
                    claim.token,
                )

    @property
    def claims(self) -> int:
        return sum(len(claims) for claims in self._claims.values())


class Sample(NamedTuple):
    rss_kib: int
    threads: int
    descriptors: int


def sample(pid: int) -> Sample:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return Sample(int(fields["VmRSS"].split()[0]), int(fields["Threads"]), len(os.listdir(f"/proc/{pid}/fd")))


# What may be added from the first tenth of the run to the last, where a run is long enough for the first to be warm.
# Python and Go keep memory that they may need again, Go also threads.
LIMITS = {"C": Sample(2048, 1, 6), "Python": Sample(4096, 2, 6), "Go": Sample(8192, 8, 6)}


class Drift:
    """How much a process has grown."""

    def __init__(self, name: str, kind: str, samples: list[Sample]) -> None:
        tenth = max(1, len(samples) // 10)
        self.name, self.kind = name, kind
        self.first, self.last = median(samples[:tenth]), median(samples[-tenth:])

    @property
    def excess(self) -> list[str]:
        found = []
        for field, first, last, limit in zip(Sample._fields, self.first, self.last, LIMITS[self.kind]):
            if last > first + limit:
                found.append(f"{field} of {self.name} from {first} to {last}")
        return found


def median(samples: Iterable[Sample]) -> Sample:
    return Sample(*(int(statistics.median(column)) for column in zip(*samples)))
