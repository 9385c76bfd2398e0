"""Ways to the tests' servers that can be stalled and slowed, by the proxy of the chaos suite.

`tests.proxy` cuts at a place in the conversation, on the test's own loop; this one is for lasting brown-outs, and has a
thread of its own, so that a busy test does not slow it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

from chaos.proxy import HOST, Link, Network


class Way:
    """A server's URL by way of a link that can `stall`, be `slow` and `heal`."""

    def __init__(self, url: str, link: Link) -> None:
        parts = urlsplit(url)
        login = "".join(parts.netloc.rpartition("@")[:2])
        self.url = urlunsplit(parts._replace(netloc=f"{login}{HOST}:{link.port}"))
        self._link = link

    def swallow(self) -> None:
        """A black hole from now on: connections stay open, new ones are taken, and nothing comes through until `heal`."""
        self._link.stall()

    def slow(self, round_trip: float) -> None:
        """Each round trip takes this many seconds longer."""
        self._link.slow(round_trip / 2)

    def heal(self) -> None:
        """Let everything through, what was kept back too."""
        self._link.heal()

    def heal_without_a_memory(self) -> None:
        """Let everything through on new connections; the old ones end, and what they kept back is lost."""
        self._link.cut()
        self._link.heal()


@contextmanager
def way_to(url: str) -> Iterator[Way]:
    """A way of its own to the server of `url`."""
    port = urlsplit(url).port
    assert port is not None
    with Network() as network:
        yield Way(url, network.link("test", urlsplit(url).scheme, lambda: port))
