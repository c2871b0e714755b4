#!/usr/bin/env python3
"""Which of the measured values miss the bounds that Tenure has set itself: `make bench-check`.

bounds.py RESULTS     a line for each bound; ends with 1 if one is missed or wasn't measured
"""

from __future__ import annotations

import json
import pathlib
import sys
from typing import NamedTuple


class Bound(NamedTuple):
    """The p50 of `name` compared with `limit` times the p50 of another, or with `limit` itself."""

    name: str
    limit: float
    other: str = ""
    part: str = "p50"
    #: That of Tenure itself rather than another's p50: of the same measurement.
    own: str = ""


BOUNDS = (
    Bound("campaign_uncontended", 1.15, "limit"),
    Bound("campaign_uncontended", 0.65, "go"),
    Bound("resign", 1.15, "limit"),
    Bound("handover_10ms", 1.3, "limit"),
    Bound("handover_10ms", 1 / 100, "go"),
    Bound("handover_250ms", 1.3, "limit"),
    Bound("handover_250ms", 1 / 3, "go"),
    Bound("handover_busy", 5, own="p50", part="p99"),
    Bound("handover_busy", 90, part="p99"),
    Bound("chain_100", 1.3, "limit"),
    Bound("crash_failover_ttl2", 2.6, part="p99"),
    Bound("crash_failover_ttl5", 5.6, part="p99"),
    Bound("join_10000", 3, "go"),
    Bound("resign_10000", 3, "go"),
    Bound("mass_failover_2000", 0.3, "go"),
    Bound("memory_per_election_leader", 2048),
    Bound("memory_per_election_follower", 2048),
    Bound("is_leader", 1.5, "limit"),
    Bound("event_to_c", 20),
    Bound("event_to_go", 50),
    Bound("event_to_python", 100),
    Bound("library_size", 3.5),
    Bound("rss_connected", 6),
    # The main thread, the callback thread, and two of the library's.
    Bound("threads", 4),
)


def main() -> int:
    rows = {row["name"]: row for row in json.loads(pathlib.Path(sys.argv[1]).read_text())}
    missed = 0
    for bound in BOUNDS:
        row = rows.get(bound.name, {})
        value, other = row.get("tenure"), row.get(bound.other or "tenure")
        if not value or not other:
            print(f"not measured  {bound.name}")
            missed += 1
            continue
        limit = bound.limit * (other["p50"] if bound.other or bound.own else 1)
        found = value[bound.part]
        met = found >= limit if row["better"] == "higher" else found <= limit
        missed += not met
        against = f" ({found / other['p50']:.3g} x {bound.other or bound.own} where {bound.limit:.3g} is the bound)"
        said = against if bound.other or bound.own else ""
        print(
            f"{'ok    ' if met else 'MISSED'}  {bound.name} {bound.part} {found:.4g} {row['unit']}, bound {limit:.4g}{said}"
        )
    print(f"{len(BOUNDS) - missed} bounds met, {missed} missed")
    return missed > 0


if __name__ == "__main__":
    sys.exit(main())
