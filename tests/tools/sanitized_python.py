#!/usr/bin/env python3
"""Runs a Python program with the address and leak sanitizers in the interpreter and in the library.

The interpreter isn't instrumented: what it reads and writes of the library's memory is seen where it calls C functions
(strlen, memcpy), what the library does everywhere. Its own leaks are nobody's concern: only those count that code of the
library allocated. First planted defects show that all of this is found. The variable TENURE_LIBRARY names the library.

usage: sanitized_python.py RUNTIME COMMAND...    RUNTIME: the sanitizer's, to be loaded first
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile

LIBRARY = os.environ["TENURE_LIBRARY"]
MODULE = pathlib.Path(LIBRARY).name

PLANTED = """
import ctypes, os, sys
libc, tenure = ctypes.CDLL(None), ctypes.CDLL(os.environ["TENURE_LIBRARY"])
error = ctypes.POINTER(ctypes.c_void_p)()
assert tenure.tenure_options_new(None, ctypes.byref(error)) == 2
message = error[2]
if sys.argv[1] == "use-after-free":
    tenure.tenure_error_free(error)
    ctypes.string_at(message)
elif sys.argv[1] == "overflow":
    ctypes.string_at(message, 200)
elif sys.argv[1] == "leak":
    for _ in range(100):
        libc.malloc(77)
tenure.tenure_error_free(error)
"""


def run(runtime: str, command: list[str]) -> tuple[int, str]:
    """The exit status, and what the sanitizers reported of this process and its children."""
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder, "log")
        environment = {
            **os.environ,
            "LD_PRELOAD": runtime,
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": f'detect_leaks=1:log_path={log}:stack_trace_format="    #%n %p %F %L %M"',
            # Only the report decides: most leaks are the interpreter's.
            "LSAN_OPTIONS": "exitcode=0",
        }
        status = subprocess.call(command, env=environment)
        return status, "".join(part.read_text() for part in sorted(pathlib.Path(folder).iterdir()))


def leaks(report: str, module: str) -> list[str]:
    """The leaks that code of this module allocated."""
    blocks = re.split(r"\n\n", report)
    return [block for block in blocks if re.match(r"(Direct|Indirect) leak", block.lstrip()) and module in block]


def check_planted(runtime: str) -> tuple[int, int]:
    def planted(defect: str) -> tuple[int, str]:
        return run(runtime, [sys.executable, "-c", PLANTED, defect])

    checks = {}
    status, report = planted("none")
    checks["nothing is found in a sound program"] = status == 0 and not leaks(report, MODULE)
    _, report = planted("use-after-free")
    checks["a use after free is found"] = "heap-use-after-free" in report
    _, report = planted("overflow")
    checks["an overflow is found"] = "heap-buffer-overflow" in report
    _, report = planted("leak")
    checks["a leak is found, and told by whose code it is"] = bool(leaks(report, "libffi")) and not leaks(
        report, MODULE
    )
    symbols = subprocess.run(["nm", "-D", LIBRARY], capture_output=True, text=True, check=True).stdout
    checks["the library is instrumented"] = "__asan_report_load" in symbols
    for name in [name for name, passed in checks.items() if not passed]:
        print(f"FAILED: {name}")
    return sum(checks.values()), len(checks) - sum(checks.values())


def main() -> int:
    runtime, *command = sys.argv[1:]
    passed, failed = check_planted(runtime)
    status, report = run(runtime, command)
    errors = re.findall(r"ERROR: AddressSanitizer.*", report)
    found = leaks(report, MODULE)
    if errors or found:
        print(report if errors else "\n\n".join(found))
    print(f"{len(errors)} errors, {len(found)} leaks of the library")
    failed += len(errors) + len(found)
    print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if status or failed else 0


if __name__ == "__main__":
    sys.exit(main())
