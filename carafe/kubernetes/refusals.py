"""Why the API server is not asked, or not asked again in this way."""


class NotInstalled(Exception):
    """The `kubernetes` package cannot be imported."""


class NotPermitted(Exception):
    """RBAC or an admission policy says no.

    Mostly for good; but an API server that has just started says so for seconds to everybody, until it has read its own
    rules, and somebody may give the permission later. So it is asked again, ever more rarely: see `refused_pause`.
    """


class Expired(Exception):
    """A watch's resource version is older than what the API server remembers: list again."""


def refused_pause(refusals: int) -> float:
    """Seconds until the API server is asked again after so many refusals in a row: 5, 10, 20 … 600."""
    return min(5.0 * 2.0 ** (min(refusals, 10) - 1), 600.0)


def words_for_off(error: Exception) -> str:
    """What to do about `NotInstalled` and `NotPermitted`, to end a log line with."""
    if isinstance(error, NotInstalled):
        return f"{error} is not installed: pip install 'carafe-jobs[kubernetes]'"
    return f"the API server says {error}"
