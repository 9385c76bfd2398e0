"""Gives this process an identity, by which it differs from all other processes past and future, and finds out whether the
process with a given identity has ended.

The identity is called the process's incarnation. On Kubernetes it consists of the pod's UID, the PID and the process's start
time. Elsewhere it consists of the host's boot id, the PID namespace, the PID and the start time. On a system without /proc,
only host name and PID are known, so a later process can get the same incarnation there.
"""

import os
import socket


def pod() -> str:
    """Returns the text with which the incarnation of every process in this pod begins; an empty text outside Kubernetes."""
    uid = os.environ.get("POD_UID")
    return f"pod {uid} " if uid else ""


def incarnation() -> str:
    """The incarnation of this process: a text that no other process ever has, except on a system without /proc."""
    started = start_time(os.getpid())
    if pod():
        return f"{pod()}{os.getpid()} {started}"
    place = _place()
    return f"{place}|{os.getpid()} {started}" if place else f"host {socket.gethostname()} {os.getpid()}"


def known_gone(other: str) -> bool:
    """Returns True if the process with the incarnation `other` has certainly ended. Returns False if it still runs, and also
    if this host cannot know that."""
    place, _, process = other.partition("|")
    if not process or place != _place():
        return False
    pid, _, started = process.partition(" ")
    if not pid.isdigit():
        return False
    now = start_time(int(pid))
    if now:
        return now != started
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return False  # there is such a process, of another user whose processes /proc does not show us
    except OSError:
        pass
    return True


def _place() -> str:
    """Returns this host's boot id and PID namespace: processes that have both in common never have the same PID at the same
    time. Returns an empty text if they cannot be read."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            return f"boot {boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """Returns when the process with this PID started, in clock ticks since boot. Returns an empty text if there is no such
    process, if it is a zombie, or if the host has no /proc."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
