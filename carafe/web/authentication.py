"""Authentication of API callers by bearer tokens. Each token has a role; the setting API_TOKENS holds the tokens' digests.

Guarantees: checking a token takes the same time whichever token of API_TOKENS matches. The role *operate* includes *view*.

If API_TOKENS is empty, the API refuses every request in production. In development the API is then open, except to web pages
of other sites. Unless ALLOW_OPEN_API is ``everybody``, two checks keep such pages out: the Host header must name this
machine (a page that uses DNS rebinding sends its own name), and the browser must not report that the request comes from
another site (`carafe.web.origins`).
"""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from carafe.settings.settings import Settings, hash_token
from carafe.store.audit import Actor
from carafe.web.installation import SettingsOf, get_settings
from carafe.web.origins import from_another_site, is_local_origin, is_loopback
from carafe.web.problems import ProblemError


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller of a request.

    `name` is the name of the caller's token, empty for an open API. Idempotency keys belong to this name. Jobs that the
    caller enqueues store the name as their creator. `operates` says whether the caller may change things.
    """

    name: str
    operates: bool

    @property
    def actor(self) -> Actor:
        """The name under which the audit records this caller."""
        return Actor(self.name or "an operator", "api")


_bearer = HTTPBearer(
    scheme_name="bearerToken",
    description="A token of API_TOKENS; `carafe token NAME ROLE` makes one.",
    auto_error=False,
)


def get_caller(
    request: Request,
    settings: SettingsOf,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Caller:
    """Dependency: the caller of the request.

    Raises ProblemError 401 if the request has no valid token. If API_TOKENS is empty, raises ProblemError 401 in production;
    in development, 403 for a request that is not addressed to this machine or comes from another site's page.
    """
    if not settings.api_tokens:
        if settings.environment == "production":  # an application that starts asks for them; not all servers start one
            raise _unauthorized("this API has no tokens (API_TOKENS), so it refuses every request", 'Bearer realm="carafe"')
        _check_is_local(request, settings)
        return Caller("", operates=True)
    if credentials is None:
        raise _unauthorized("this request needs the header Authorization: Bearer TOKEN", 'Bearer realm="carafe"')
    digest = hash_token(credentials.credentials)
    found = None
    for token in settings.api_tokens:  # all of them, also after a match
        if compare_digest(token.digest, digest):
            found = token
    if found is None:
        raise _unauthorized("the bearer token is not known", 'Bearer realm="carafe", error="invalid_token"')
    return Caller(found.name, operates=found.role == "operate")


async def authenticate(request: Request) -> Caller:
    """Returns the caller of a request, for code that cannot have `get_caller` as a dependency of FastAPI. Raises what
    `get_caller` raises."""
    return get_caller(request, get_settings(request), await _bearer(request))


def get_operator(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """Dependency: a caller who may change things. Raises ProblemError 403 if the caller's token has only the role *view*,
    and whatever `get_caller` raises."""
    if not caller.operates:
        raise ProblemError(
            403,
            "forbidden",
            f"the token {caller.name!r} has the role view; this request needs one with the role operate",
            headers={"WWW-Authenticate": 'Bearer realm="carafe", error="insufficient_scope"'},
        )
    return caller


Viewer = Annotated[Caller, Depends(get_caller)]
"""A parameter of this type admits callers who may read."""

Operator = Annotated[Caller, Depends(get_operator)]
"""A parameter of this type admits callers who may change things."""


def _unauthorized(detail: str, challenge: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": challenge})


def _check_is_local(request: Request, settings: Settings) -> None:
    if settings.allow_open_api == "everybody":
        return
    if not is_loopback(request.headers.get("host", "")):
        raise ProblemError(
            403,
            "host-not-local",
            "this API has no tokens, so it answers only to localhost; set API_TOKENS (`carafe token NAME ROLE` makes "
            "one), or ALLOW_OPEN_API=everybody to let everybody who reaches it do everything",
        )
    if from_another_site(request, ours=is_local_origin):
        raise ProblemError(403, "origin-not-local", "this API has no tokens, so pages of other sites may not use it")
