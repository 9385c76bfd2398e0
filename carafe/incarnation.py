"""What tells one process from any other that ever has its name, and whether it is known to be gone.

On Kubernetes the pod's UID, and within it the process; elsewhere boot id, PID namespace, PID and the process's start time.
"""

import os
import socket


def pod() -> str:
    """The prefix of every incarnation of this pod; empty outside Kubernetes."""
    uid = os.environ.get("POD_UID")
    return f"pod {uid} " if uid else ""


def incarnation() -> str:
    """This process's incarnation."""
    started = start_time(os.getpid())
    if pod():
        return f"{pod()}{os.getpid()} {started}"
    place = _place()
    return f"{place}|{os.getpid()} {started}" if place else f"host {socket.gethostname()} {os.getpid()}"


def known_gone(other: str) -> bool:
    """Whether the process of an incarnation has certainly ended, as far as this host can tell; False when it cannot."""
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
    """This host's boot and PID namespace, within which PIDs mean something; empty where that cannot be known."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot:
            return f"boot {boot.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def start_time(pid: int) -> str:
    """When a process started, in clock ticks since boot; empty when there is none (or no /proc), or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
