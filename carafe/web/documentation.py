"""The page at /docs, where Swagger UI shows the OpenAPI document and lets a reader try the API out.

The page loads files from this process only: the package fastapi-offline contains those of Swagger UI. So the page works
without the internet, and no script of another site can read a token that somebody types into it. The page's
Content-Security-Policy enforces this.
"""

import html
from functools import cache
from importlib.resources import files

from fastapi import FastAPI, Response
from fastapi.responses import HTMLResponse

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Swagger UI's style sheet has its icons in itself.
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)

HEADERS = {"content-security-policy": CONTENT_SECURITY_POLICY}

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<noscript>This page needs scripts; the document itself is at <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""

_START = """// The document is served beside this page, and is not sent anywhere for validation.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""

_FILES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
"""The files of fastapi-offline that are served, with their media types."""


def serve_documentation(app: FastAPI) -> None:
    """Add the page /docs to an application made with ``docs_url=None`` that serves its OpenAPI document at /openapi.json."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(_PAGE.format(title=html.escape(app.title)), headers=HEADERS)

    @app.get("/docs/start.js", include_in_schema=False)
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    def serve(name: str, media_type: str) -> None:
        @app.get(f"/docs/{name}", include_in_schema=False)
        async def file() -> Response:
            # Kept by the browser for as long as a page is likely to be looked at; a new version may come with any release.
            return Response(_content(name), media_type=media_type, headers={"cache-control": "private, max-age=3600"})

    for name, media_type in _FILES.items():
        serve(name, media_type)


@cache
def _content(name: str) -> bytes:
    return (files("fastapi_offline") / "static" / name).read_bytes()
