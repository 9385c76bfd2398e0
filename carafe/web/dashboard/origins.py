"""Where a request comes from and what the browser takes us for: the peer, the host, the scheme, the Origin.

Headers of a proxy (X-Forwarded-Proto, X-Forwarded-Host, X-Forwarded-For, and the user's name) count only from the
networks of DASHBOARD_PROXY_NETWORKS; everybody else can write what they like into them.
"""

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastapi import Request

from carafe.web.origins import within

if TYPE_CHECKING:
    from carafe.settings import Settings


def from_proxy(request: Request) -> bool:
    """Whether the peer is one of the listed proxies."""
    networks = _settings(request).dashboard_proxy_networks
    return bool(networks) and request.client is not None and within(request.client.host, networks)


def address_of(request: Request) -> str:
    """The browser's address: the peer's, or what a listed proxy says (the last entry that is no listed proxy itself)."""
    peer = request.client.host if request.client is not None else ""
    if not from_proxy(request):
        return peer
    networks = _settings(request).dashboard_proxy_networks
    for entry in reversed(request.headers.get("x-forwarded-for", "").split(",")):
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
    """Whether the browser reaches us over https."""
    if from_proxy(request):
        forwarded = _last(request, "x-forwarded-proto")
        if forwarded:
            return forwarded.lower() == "https"
    return request.url.scheme == "https"


def host_of(request: Request) -> str:
    """The host and port that the browser takes us for, the default port left out."""
    host = (_last(request, "x-forwarded-host") if from_proxy(request) else "") or request.headers.get("host", "")
    return _plain(host, is_secure(request))


def origin_matches(request: Request) -> bool:
    """Whether the request was made by a page of ours, as its Origin says, and nothing that the browser says denies it."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    return is_ours(request, request.headers.get("origin", ""))


def is_ours(request: Request, origin: str) -> bool:
    """Whether an Origin has our host and port, and our scheme unless a proxy that is not listed took https away (then we
    cannot know it)."""
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
    return request.headers.get(header, "").rpartition(",")[2].strip()


def _settings(request: Request) -> "Settings":
    settings: Settings = request.app.state.dashboard.settings
    return settings
