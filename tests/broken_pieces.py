#!/usr/bin/env python3
"""Whether what broken_engines.py and broken_models.py replace is in the sources, each piece once: a part of `make lint`.

They take minutes and so are run now and then; whoever changes such a piece hears of it at once.
"""

from __future__ import annotations

import sys

import broken_engines
import broken_models


def main() -> int:
    source = broken_engines.ROOT / "src"
    pieces = [(f"election/{broken.file}", broken.old, broken.name) for broken in broken_engines.BROKEN]
    pieces += [(broken.file, broken.old, broken.name) for broken in broken_models.BROKEN]
    lost = [(file, name) for file, old, name in pieces if (source / file).read_text().count(old) != 1]
    for file, name in lost:
        print(f"src/{file}: what `{name}` replaces is not there once; put its new form into tests/broken_*.py")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
