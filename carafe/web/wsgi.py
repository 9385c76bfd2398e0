"""Recognizes WSGI applications (Flask's, Django's ``wsgi.application``), which Carafe's web server cannot serve."""

import inspect
from typing import Any

ADVICE = "serve it with gunicorn or another WSGI server, and leave WEB_APPLICATION unset"
"""What to do with a WSGI application."""


def is_wsgi(application: Any) -> bool:
    """Whether an object is called as WSGI says, with an environment and ``start_response`` (PEP 3333). An ASGI application
    takes three arguments, and a function that makes one takes at most the settings."""
    if inspect.isclass(application) or not callable(application):
        return False
    try:
        parameters = inspect.signature(application).parameters.values()
    except (TypeError, ValueError):  # it is not written in Python, or hides its parameters
        return False
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.kind in positional and one.default is inspect.Parameter.empty]
    return len(needed) == 2
