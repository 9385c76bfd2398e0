"""Who calls, and what they may do: bearer tokens with a role, of which the settings keep digests (API_TOKENS).

Guarantees: comparing takes the same time whichever token is right; *operate* may do all that *view* may.
Without tokens the API answers nobody in production. In development it is open, but not to a web page of another site:
unless ALLOW_OPEN_API is everybody, the request must name this machine as its host (a page that rebinds its own name
cannot), and a browser must not say that it comes from elsewhere (`carafe.web.origins`).
"""

from dataclasses import dataclass
from hmac import compare_digest
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from carafe.jobs.audit import Actor
from carafe.settings import Settings, hash_token
from carafe.web.installation import SettingsOf
from carafe.web.origins import from_another_site, is_local_origin, is_loopback
from carafe.web.problems import ProblemError


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. `name` is the token's, empty for an open API; it scopes idempotency keys and signs jobs."""

    name: str
    operates: bool

    @property
    def actor(self) -> Actor:
        """The same for the audit."""
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
    """Dependency: who calls. Raises ProblemError 401 or, for an open API reached from elsewhere, 403."""
    if not settings.api_tokens:
        if settings.environment == "production":  # an application that starts asks for them; not all servers start one
            raise _unauthorized("this API has no tokens (API_TOKENS), so it answers nobody", 'Bearer realm="carafe"')
        _check_is_local(request, settings)
        return Caller("", operates=True)
    if credentials is None:
        raise _unauthorized("this needs the header Authorization: Bearer TOKEN", 'Bearer realm="carafe"')
    digest = hash_token(credentials.credentials)
    found = None
    for token in settings.api_tokens:  # all of them, also after a match
        if compare_digest(token.digest, digest):
            found = token
    if found is None:
        raise _unauthorized("the bearer token is not known", 'Bearer realm="carafe", error="invalid_token"')
    return Caller(found.name, operates=found.role == "operate")


def get_operator(caller: Annotated[Caller, Depends(get_caller)]) -> Caller:
    """Dependency: who calls, and may change things. Raises ProblemError 401 or 403."""
    if not caller.operates:
        raise ProblemError(
            403,
            "forbidden",
            f"the token {caller.name!r} may view; this needs one with the role operate",
            headers={"WWW-Authenticate": 'Bearer realm="carafe", error="insufficient_scope"'},
        )
    return caller


Viewer = Annotated[Caller, Depends(get_caller)]
"""A parameter of this type lets in whoever may read."""

Operator = Annotated[Caller, Depends(get_operator)]
"""A parameter of this type lets in whoever may change things."""


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
