"""The signals that end a process in order."""

import signal


def ending() -> tuple[signal.Signals, ...]:
    """SIGTERM, SIGINT and SIGHUP (a terminal that closes, some supervisors), unless the process was started with the last
    one ignored (``nohup``). From the main thread, before handlers are set."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) == signal.SIG_IGN:
        return signal.SIGTERM, signal.SIGINT
    return signal.SIGTERM, signal.SIGINT, hangup
