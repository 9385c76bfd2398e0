"""Whether a request can be the work of another site's page in somebody's browser: by its Host, its Origin and what the
browser says of it (Sec-Fetch-Site). One place for the API and the dashboard.

Such a page reaches what its reader's machine reaches. It cannot choose these headers: Host is its own name, also after
it has pointed that name at us (DNS rebinding), and Origin is its own site.
"""

import socket
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

Network = IPv4Network | IPv6Network

LOOPBACK: tuple[Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

INNER = (".localhost", ".local", ".internal", ".svc", ".test", ".home.arpa", ".lan", ".intranet", ".corp", ".home")
"""Ends of names that nobody can register, so that no stranger's page has one."""


def name_of(authority: str) -> str:
    """The name or address in a Host, in lower case; empty when it is none."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(authority: str) -> bool:
    """Whether a Host names this machine itself: localhost, a name under it, or a loopback address."""
    name = name_of(authority)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def cannot_be_rebound(authority: str) -> bool:
    """Whether no stranger can have pointed this Host at us: an address, a name that is nobody's to register, or ours."""
    name = name_of(authority)
    if not name:
        return False
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(INNER) or name in _our_names()
    return True


def from_another_site(request: HTTPConnection, ours: Callable[[str], bool]) -> bool:
    """Whether a browser says that another site's page made this request: by an Origin that is not `ours`, or by
    Sec-Fetch-Site. Following a link, which changes nothing and shows the answer to nobody but the reader, is not meant."""
    origin = request.headers.get("origin")
    if origin is not None and not ours(origin):
        return True
    if request.headers.get("sec-fetch-site") != "cross-site":
        return False
    follows_link = (
        request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-dest") == "document"
    )
    return not (follows_link and request.scope.get("method") in ("GET", "HEAD"))


def within(address: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of these networks (an IPv4 address written as IPv6 too)."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def is_local_origin(origin: str) -> bool:
    """Whether an Origin is a page of this machine."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and is_loopback(parts.netloc)
    except ValueError:
        return False


@cache
def _our_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower()})
