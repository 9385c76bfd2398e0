"""Returns a job's result as the type that its class declares: ``class Export(Job[Exported], kind=...)``.

The store keeps results as JSON. This module turns that JSON into an `Exported` again, by the rules by which the worker wrote
it. If a class declares no type, its results stay plain JSON data.
"""

import sys
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from carafe.jobs.definition import Job
from carafe.jobs.errors import InvalidResult, faults_of
from carafe.jobs.round_trip import keeps_extra, read_leniently
from carafe.jobs.stored_json import written


def typed_result(job_class: type[Job], result: Any) -> Any:
    """Returns the parameter `result` (plain data from a record) as the type that `job_class` declares. None stands for a job
    without a result, and stays None.

    Raises `InvalidResult` when the result does not fit the type, for instance because another release of the handler wrote
    it.
    """
    if result is None or result_type(job_class) is Any:
        return result
    try:
        # By JSON's rules, as the worker wrote it: fields by their names; fields that this release does not know are ignored.
        adapter, extra = _adapter(job_class)
        return read_leniently(adapter.validate_json, written(result), keeps_extra=extra)
    except ValidationError as error:
        raise InvalidResult(job_class.job_options.kind, faults_of(error)) from None


@cache
def result_type(job_class: type[Job]) -> Any:
    """The type that the handler of a job class returns: the argument of ``Job[…]`` in the class or its nearest parent.
    Returns ``Any`` if there is none."""
    given: dict[Any, Any] = {}
    for parent in job_class.__mro__:
        _note_parameters(parent, given)
        for base in vars(parent).get("__orig_bases__", ()):
            origin, arguments = get_origin(base), get_args(base)
            if isinstance(origin, type) and issubclass(origin, Job) and arguments:
                found = given.get(arguments[0], arguments[0])
                if not isinstance(found, TypeVar):
                    return _evaluated(found, parent)
    return Any


def _note_parameters(parent: Any, given: dict[Any, Any]) -> None:
    """If `parent` is a generic pydantic model whose parameters were given types, add these types to `given`."""
    generic = getattr(parent, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        parameters = generic["origin"].__pydantic_generic_metadata__["parameters"]
        given.update(zip(parameters, generic["args"], strict=False))


def _evaluated(found: Any, parent: type[Any]) -> Any:
    """Returns `found`. If the type was written as text, as in ``Job["Exported"]``, returns the type that the text names."""
    return eval(found, vars(sys.modules[parent.__module__])) if isinstance(found, str) else found


@cache
def _adapter(job_class: type[Job]) -> tuple[TypeAdapter[Any], bool]:
    """Returns pydantic's adapter that reads the results of a class, and whether a model in these results keeps fields that
    it does not declare."""
    adapter = TypeAdapter[Any](result_type(job_class))
    return adapter, keeps_extra(adapter.core_schema)
