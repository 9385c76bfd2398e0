"""Watches a web process from a process of its own, so that what attacks it does not slow the watching down.

``python watching.py PID HOST PORT``: says "watching", and at the end of its input the most memory that it has seen (bytes),
the slowest answer of /livez (seconds), how long the web process worked at most while one was awaited (seconds) and what was
wrong with one, if anything was.

"slowest" is by the clock. "worked" is no more than that, nor than the processor time that the web process took meanwhile: on
a machine that has other work, what it waited for may not be the attack's doing. It misses what the attack made it wait for.
"""

import json
import os
import socket
import sys
import threading
import time

LOOK = 0.02
"""Seconds between two looks at the memory."""

ASK = 0.1
"""Seconds between two questions."""

PATIENCE = 30.0
"""Seconds that an answer may take until it counts as none."""


def used(pid: str) -> float:
    """Seconds of processor time that a process has taken."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(pid: str, host: str, port: int) -> None:
    """The story: two threads look and ask until the input ends."""
    peak, slowest, worked, fault = 0, 0.0, 0.0, ""
    over = threading.Event()

    def look() -> None:
        nonlocal peak
        while not over.wait(LOOK):
            with open(f"/proc/{pid}/status") as status:
                size = next(int(line.split()[1]) * 1_024 for line in status if line.startswith("VmRSS:"))
            peak = max(peak, size)

    def ask() -> None:
        nonlocal slowest, worked, fault
        while not over.wait(ASK):
            began, used_before = time.monotonic(), used(pid)
            try:
                with socket.create_connection((host, port), timeout=PATIENCE) as connection:
                    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    answer = connection.recv(1_000)
            except OSError as error:
                answer = repr(error).encode()
            took = time.monotonic() - began
            slowest, worked = max(slowest, took), max(worked, min(took, used(pid) - used_before))
            if not answer.startswith(b"HTTP/1.1 200"):
                fault = answer[:200].decode("latin-1") or "closed without an answer"

    threads = [threading.Thread(target=task, daemon=True) for task in (look, ask)]
    for thread in threads:
        thread.start()
    print("watching", flush=True)  # noqa: T201
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join(PATIENCE)
    print(json.dumps({"peak": peak, "slowest": slowest, "worked": worked, "fault": fault}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
