"""Renders either a whole page, or only its live part, which the browser fetches again when something changes.

The template `pages/<name>.html` includes `pages/<name>_live.html`. A request with the header ``X-Fragment: 1`` gets only the
live template, so that both answers always look the same.
"""

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from carafe.dashboard.view.rendering import TEMPLATES, render


def show(request: Request, name: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """Returns the page `name`, or only its live part if the request asks for that."""
    live = request.headers.get("X-Fragment") == "1" and (TEMPLATES / "pages" / f"{name}_live.html").is_file()
    return render(request, f"pages/{name}_live.html" if live else f"pages/{name}.html", status_code, **context)
