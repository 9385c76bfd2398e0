"""A page and the part of it that is live: the same template answers for both, so they cannot differ.

`pages/<name>.html` includes `pages/<name>_live.html`; a request with ``X-Fragment: 1`` gets the latter alone.
"""

from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse

from carafe.web.dashboard.rendering import TEMPLATES, render


def show(request: Request, name: str, status_code: int = 200, **context: Any) -> HTMLResponse:
    """The page `name`, or its live part alone if it has one and that is what the request asks for."""
    live = request.headers.get("X-Fragment") == "1" and (TEMPLATES / "pages" / f"{name}_live.html").is_file()
    return render(request, f"pages/{name}_live.html" if live else f"pages/{name}.html", status_code, **context)
