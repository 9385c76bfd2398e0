"""The class of the job API's routes. A request with a query parameter or a body that its operation does not document, or
with a query that is not UTF-8, is refused before the operation does anything.

The documentation is taken from the route itself: the parameters that its function declares, and the `parameters` and
`requestBody` of its `openapi_extra`. A route that describes parameters in `openapi_extra` checks its query by itself.
Guarantees: callers are authenticated first, so a caller without a token learns nothing about parameters.
A request without a query string to an operation with a body, such as an enqueue, is not checked and costs nothing more.
"""

import types
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import unquote_to_bytes

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from carafe.jobs.errors import Fault
from carafe.web.authentication import authenticate
from carafe.web.problems import invalid_request

EMPTY = frozenset({b"", b"{}", b"null"})
"""The bodies that count as empty. Many HTTP libraries send one of them with every POST, so they are accepted everywhere."""

LONGEST_EMPTY = 16
"""The maximum number of bytes of a body that is looked at to see whether it is empty."""


class DocumentedRoute(APIRoute):
    """A route that refuses (422) query parameters and bodies that its operation does not document, and a parameter with a
    single value that is given several times. Use it as ``APIRouter(route_class=DocumentedRoute)``, for routes that admit
    callers with `Viewer` or `Operator`. It does not know parameters of dependencies that only ``include_router`` adds."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the function that checks a request and then answers it."""
        serve = super().get_route_handler()
        extra = self.openapi_extra or {}
        takes_body = self.body_field is not None or "requestBody" in extra
        known = None if "parameters" in extra else dict(_parameters(self.dependant))

        async def checked(request: Request) -> Response:
            faults: list[Fault] = []
            if known is not None and request.scope["query_string"]:
                faults = _undocumented(request, known)
            if not _is_utf8(request.scope["query_string"]):
                faults.append(Fault("query", "must be UTF-8, percent-encoded", "invalid-option"))
            sends = not takes_body and _announces_body(request)
            if faults or sends:
                await authenticate(request)
            if sends and not await _is_empty(request):
                faults.append(Fault("", f"this operation takes no body{_instead(known)}", "extra_forbidden"))
            if faults:
                raise invalid_request(faults)
            return await serve(request)

        return checked


def _undocumented(request: Request, known: dict[str, bool]) -> list[Fault]:
    faults: list[Fault] = []
    given: dict[str, int] = {}
    for name, _ in request.query_params.multi_items():
        given[name] = given.get(name, 0) + 1
    for name, times in given.items():
        if name not in known:
            there = f"its parameters are {', '.join(known)}" if known else "it has none"
            faults.append(Fault(f"query.{name}", f"is not a parameter of this operation: {there}", "extra_forbidden"))
        elif times > 1 and not known[name]:
            faults.append(Fault(f"query.{name}", f"is given {times} times; give it once", "invalid-option"))
    return faults


def _is_utf8(query: bytes) -> bool:
    """Whether a query string is UTF-8. Otherwise its parameters would be read with replacement characters in them."""
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        return False
    return True


def _instead(known: dict[str, bool] | None) -> str:
    return f"; its parameters belong in the query: {', '.join(known)}" if known else ""


def _announces_body(request: Request) -> bool:
    headers = request.headers
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _is_empty(request: Request) -> bool:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_EMPTY:
            return False
    return body.strip() in EMPTY


def _parameters(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Yields the name of each query parameter that a route's function and its dependencies declare, and whether it may be
    given several times."""
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, inner in annotation.model_fields.items():
                yield _alias(inner) or name, _is_many(inner.annotation)
        else:
            yield field.alias, _is_many(annotation)
    for inside in dependant.dependencies:
        yield from _parameters(inside)


def _alias(field: FieldInfo) -> str | None:
    return field.validation_alias if isinstance(field.validation_alias, str) else field.alias


def _is_many(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType, Annotated):
        return any(map(_is_many, get_args(annotation)))
    many = isinstance(origin, type) and issubclass(origin, Sequence | set | frozenset)
    return many and not issubclass(origin, str | bytes)
