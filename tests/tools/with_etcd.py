#!/usr/bin/env python3
"""Runs a command with an etcd of its own, whose address is in ETCD_ENDPOINTS, and ends the etcd after it.

usage: [MEMBERS=3] [ETCD_DATA=FOLDER] with_etcd.py ETCD-PROGRAM COMMAND...

MEMBERS is how many servers are one cluster, 1 by default; ETCD_DATA where their data is, in memory by default.
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


def start(program: str, folder: str, members: int) -> "tuple[list[subprocess.Popen[str]], str] | None":
    """Starts a cluster; None if another program was faster to take a port."""
    urls = [tuple(f"http://127.0.0.1:{free_port()}" for _ in range(2)) for _ in range(members)]
    cluster = ",".join(f"member-{i}={peer}" for i, (_, peer) in enumerate(urls))
    servers = []
    for i, (client, peer) in enumerate(urls):
        command = ["setpriv", "--pdeathsig", "KILL", "--", program, "--data-dir", f"{folder}/member-{i}"]
        command += ["--name", f"member-{i}", "--logger=zap", "--log-outputs=stderr"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", cluster]
        servers.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
    logs = [wait_ready(server) for server in servers]
    if not any(logs):
        return servers, ",".join(client for client, _ in urls)
    stop(servers)
    if any("address already in use" in line for log in logs for line in log):
        return None
    sys.exit("".join(line for log in logs for line in log[-20:]) + f"{program} did not start")


def wait_ready(server: "subprocess.Popen[str]") -> "list[str]":
    """Waits until it serves; if it ends instead, its last words."""
    log = []
    assert server.stderr is not None
    for line in server.stderr:
        if "serving client traffic" in line:
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return []
        log.append(line)
    return log or ["it said nothing\n"]


def stop(servers: "list[subprocess.Popen[str]]") -> None:
    for server in servers:
        server.kill()
        server.wait()


def main() -> int:
    program, *command = sys.argv[1:]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="tenure-", dir=os.environ.get("ETCD_DATA") or memory)
    members = int(os.environ.get("MEMBERS") or 1)
    try:
        started = None
        while not started:
            started = start(program, folder, members)
        servers, endpoints = started
        try:
            return subprocess.call(command, env={**os.environ, "ETCD_ENDPOINTS": endpoints})
        finally:
            stop(servers)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
