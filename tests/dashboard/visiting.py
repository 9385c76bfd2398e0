"""A visitor of the dashboard, as a browser without JavaScript would be: cookies, Origin, the token of the page at hand."""

import re
from html import unescape
from typing import Any

import httpx

TOKEN = re.compile(r'name="token" value="([^"]+)"')


class Visitor:
    """Opens pages and sends forms. `origin` is what its browser says on a form; None says nothing."""

    def __init__(self, http: httpx.AsyncClient, **headers: str) -> None:
        self.http = http
        self.headers = headers
        self.origin: str | None = str(http.base_url).rstrip("/")
        self.token = ""

    async def open(self, path: str, **headers: str) -> httpx.Response:
        """The answer; its token is the one of the next form."""
        answer = await self.http.get(path, headers=self.headers | headers)
        found = TOKEN.search(answer.text)
        if found:
            self.token = unescape(found[1])
        return answer

    async def send(self, path: str, **fields: Any) -> httpx.Response:
        """A form with the token at hand (`token=""`: without)."""
        headers = dict(self.headers)
        if self.origin is not None:
            headers["origin"] = self.origin
        data = {"token": self.token} | fields
        return await self.http.post(
            path, data={name: value for name, value in data.items() if value is not None}, headers=headers
        )

    async def sign_in(self, name: str, password: str, **fields: Any) -> httpx.Response:
        """The sign-in form, filled in and sent."""
        await self.open("/login")
        return await self.send("/login", name=name, password=password, **fields)

    @property
    def cookie(self) -> str:
        """The session cookie's value."""
        return next(value for name, value in self.http.cookies.items() if name.endswith("carafe_dashboard"))
