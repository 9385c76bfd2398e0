"""Adds to FastAPI's OpenAPI document what FastAPI cannot know: problem+json answers, and the bodies that
`carafe.web.bodies` reads."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from carafe.web.problems import MEDIA_TYPE, Problem

_REFERENCE = "#/components/schemas/{model}"

_models: dict[str, type[BaseModel]] = {"Problem": Problem}

Responses = dict[int | str, dict[str, Any]]

_MEANINGS: Mapping[int, str] = {
    400: "The body is not JSON, or not UTF-8.",
    401: "The bearer token is missing or unknown.",
    403: "The token's role does not allow this, or an API without tokens was called from elsewhere.",
    404: "No such job, queue, worker, bulk action or page exists.",
    409: "It conflicts with the job's state, or the Idempotency-Key was used for another request.",
    413: "The body, or a job's arguments, are over their limit.",
    415: "The body is not declared as application/json.",
    422: "The request is not valid; `faults` lists what is wrong, by path. Nothing was stored.",
    503: "Postgres cannot be reached; `outcome-unknown` says to repeat with the same Idempotency-Key.",
}


def problems(*statuses: int) -> Responses:
    """Returns the ``responses`` argument of a route that may answer problems with these HTTP statuses."""
    return {
        status: {
            "description": _MEANINGS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REFERENCE.format(model="Problem")}}},
            **({"headers": {"Retry-After": {"schema": {"type": "integer"}}}} if status == 503 else {}),
        }
        for status in statuses
    }


def request_body(model: type[BaseModel], **examples: Any) -> dict[str, Any]:
    """Returns the ``openapi_extra`` argument of a route whose body is read as `model`. `examples` are example bodies, each
    under its name."""
    _models[model.__name__] = model
    content: dict[str, Any] = {"schema": {"$ref": _REFERENCE.format(model=model.__name__)}}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def complete_document(app: FastAPI, *, open_api: bool) -> None:
    """Add the models that `problems` and `request_body` refer to to the OpenAPI document of `app`.

    If `open_api` is true, the API has no tokens, and the document calls the bearer token optional.
    """
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        if "Problem" not in schemas:
            _, made = models_json_schema([(model, "validation") for model in _models.values()], ref_template=_REFERENCE)
            used = str(document)
            # Models of routes that this application does not have stay out.
            wanted = {name for name in _models if f"'{_REFERENCE.format(model=name)}'" in used}
            while more := {name for name in made["$defs"] if name not in wanted and _refers(made, wanted, name)}:
                wanted |= more
            schemas.update({name: made["$defs"][name] for name in sorted(wanted)})
            for path in document.get("paths", {}).values() if open_api else ():
                for operation in path.values():
                    if "security" in operation:
                        operation["security"].append({})
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def _refers(made: dict[str, Any], sources: set[str], target: str) -> bool:
    reference = f"'{_REFERENCE.format(model=target)}'"
    return any(reference in str(made["$defs"][source]) for source in sources)
