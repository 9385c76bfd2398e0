"""Finds out where a request comes from, and how the browser addressed this server: IP address, host, scheme and Origin.

The headers that proxies set (X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-For, and the user's name) are believed only
from the networks of DASHBOARD_PROXY_NETWORKS, since anybody else could forge them.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request

from carafe.web.origins import within

if TYPE_CHECKING:
    from carafe.settings.settings import Settings


def from_proxy(request: Request) -> bool:
    """Whether the connection comes from a proxy in DASHBOARD_PROXY_NETWORKS."""
    networks = _settings(request).dashboard_proxy_networks
    return bool(networks) and request.client is not None and within(request.client.host, networks)


def address_of(request: Request) -> str:
    """Returns the browser's IP address.

    This is the address of the connection's peer. If the peer is a proxy in DASHBOARD_PROXY_NETWORKS, it is the last entry of
    X-Forwarded-For that is not such a proxy.
    """
    peer = request.client.host if request.client is not None else ""
    if not from_proxy(request):
        return peer
    networks = _settings(request).dashboard_proxy_networks
    for entry in reversed(_entries(request, "x-forwarded-for")):
        entry = entry.strip()
        try:
            ip_address(entry)
        except ValueError:
            break
        peer = entry
        if not within(entry, networks):
            break
    return peer


def is_secure(request: Request) -> bool:
    """Whether the browser uses https."""
    if from_proxy(request):
        forwarded = _last(request, "x-forwarded-proto")
        if forwarded:
            return forwarded.lower() == "https"
    return request.url.scheme == "https"


def host_of(request: Request) -> str:
    """Returns the host and port that the browser has sent the request to, without the scheme's default port."""
    host = (_last(request, "x-forwarded-host") if from_proxy(request) else "") or request.headers.get("host", "")
    return _plain(host, is_secure(request))


def origin_matches(request: Request) -> bool:
    """Whether a page of this dashboard made the request, as the headers Origin and Sec-Fetch-Site say."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return is_ours(request, request.headers.get("origin", ""))


def is_ours(request: Request, origin: str) -> bool:
    """Whether an Origin has this dashboard's host, port and scheme.

    An https Origin is accepted even if the request came over http: a proxy outside DASHBOARD_PROXY_NETWORKS may have
    received it over https.
    """
    try:
        parts = urlsplit(origin)
        secure = parts.scheme == "https"
        if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.username is not None:
            return False
        if is_secure(request) and not secure:
            return False
    except ValueError:
        return False
    return bool(parts.netloc) and _plain(parts.netloc, secure) == _plain(host_of(request), secure)


def _plain(authority: str, secure: bool) -> str:
    return authority.lower().removesuffix(":443" if secure else ":80")


def _last(request: Request, header: str) -> str:
    return _entries(request, header)[-1].strip()


def _entries(request: Request, header: str) -> list[str]:
    """Returns the entries of a header that proxies append to; the last entry is that of the nearest proxy.

    A proxy may extend the line that it received, or add a line below. So all lines are joined: the first one alone may be
    the browser's own.
    """
    return ",".join(request.headers.getlist(header)).split(",")


def _settings(request: Request) -> "Settings":
    settings: Settings = request.app.state.dashboard.settings
    return settings
