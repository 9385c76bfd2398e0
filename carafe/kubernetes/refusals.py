"""The errors that callers of the Kubernetes API server handle: after `NotInstalled` they make no more requests, after
`NotPermitted` they wait before the next one, and after `Expired` they list the pods again."""


class NotInstalled(Exception):
    """The `kubernetes` package cannot be imported."""


class NotPermitted(Exception):
    """RBAC or an admission policy refuses the request. Such a refusal is usually permanent. But an API server that has just
    started refuses all requests for some seconds, and the permission may be granted later. So the request is tried again,
    after pauses that grow: see `refused_pause`.
    """


class Expired(Exception):
    """A watch asked for the changes since a resource version that the API server no longer remembers. The pods must be
    listed again."""


def refused_pause(refusals: int) -> float:
    """Seconds until the API server is asked again after this many refusals in a row: 5, 10, 20 … 600."""
    return min(5.0 * 2.0 ** (min(refusals, 10) - 1), 600.0)


def words_for_off(error: Exception) -> str:
    """Returns the end of a log line about `NotInstalled` (which package is missing, and how to install it) or `NotPermitted`
    (what the API server says)."""
    if isinstance(error, NotInstalled):
        return f"{error} is not installed: pip install 'carafe-jobs[kubernetes]'"
    return f"the API server says {error}"
