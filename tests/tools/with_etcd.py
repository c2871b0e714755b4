#!/usr/bin/env python3
"""Runs a command with an etcd of its own, whose address is in ETCD_ENDPOINTS, and ends the etcd after it.

usage: with_etcd.py ETCD-PROGRAM COMMAND...
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading


def free_port() -> int:
    """A free port below those that the kernel gives to clients, so that none of them takes it in between."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


def start(program: str, folder: str) -> "tuple[subprocess.Popen[str], str] | None":
    """Starts etcd; None if another program was faster to take a port."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    command = ["setpriv", "--pdeathsig", "KILL", "--", program, "--data-dir", folder]
    command += ["--logger=zap", "--log-outputs=stderr"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"]
    etcd = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    output, log = etcd.stderr, []
    assert output is not None
    for line in output:
        if "serving client traffic" in line:
            threading.Thread(target=output.read, daemon=True).start()
            return etcd, client
        log.append(line)
    if any("address already in use" in line for line in log):
        return None
    sys.exit("".join(log[-20:]) + f"{program} ended with {etcd.wait()}")


def main() -> int:
    program, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder = tempfile.mkdtemp(prefix="tenure-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    try:
        started = None
        while not started:
            started = start(program, folder)
        etcd, endpoint = started
        try:
            return subprocess.call(command, env={**os.environ, "ETCD_ENDPOINTS": endpoint})
        finally:
            etcd.kill()
            etcd.wait()
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
