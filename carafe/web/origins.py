"""Recognises requests that a web page of another site makes through somebody's browser. Used by the API and the dashboard.

A page of another site can send requests to any server that the browser's machine reaches, so also to this one. But the page
cannot choose the headers Host, Origin and Sec-Fetch-Site, which the browser sets. If the page's owner has pointed the page's
domain name at this server (DNS rebinding), Host is that name. Origin is the site that the page came from.
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
"""Endings of host names that nobody can register publicly, so that no page on the internet is served under such a name."""


def name_of(authority: str) -> str:
    """Returns the name or IP address in a Host header, in lower case, without its port; empty if the header is malformed."""
    try:
        return (urlsplit(f"//{authority}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(authority: str) -> bool:
    """Whether a Host header names this machine: localhost, a name that ends in ``.localhost``, or a loopback address."""
    name = name_of(authority)
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def cannot_be_rebound(authority: str) -> bool:
    """Whether a Host header cannot be the result of DNS rebinding.

    True for an IP address, for a name that nobody can register (`INNER`, or without a dot), and for this machine's own name.
    """
    name = name_of(authority)
    if not name:
        return False
    try:
        ip_address(name)
    except ValueError:
        return "." not in name or name.endswith(INNER) or name in _our_names()
    return True


def from_another_site(request: HTTPConnection, ours: Callable[[str], bool]) -> bool:
    """Whether the browser reports that a page of another site made this request.

    The browser reports it by an Origin header for which the function `ours` returns False, or by the header Sec-Fetch-Site.
    Following a link from another site does not count: it changes nothing, and the other site does not see the answer.
    """
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
    """Whether an IP address is in one of the networks. An IPv4 address may be written as IPv6 (``::ffff:192.0.2.1``)."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def is_local_origin(origin: str) -> bool:
    """Whether an Origin header names a page that this machine serves."""
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and is_loopback(parts.netloc)
    except ValueError:
        return False


@cache
def _our_names() -> frozenset[str]:
    return frozenset({socket.gethostname().lower()})
