"""Pictures of the dashboard for the documentation: `make screenshots` writes docs/screenshots/<page>-{light,dark,phone}.png.

The pages are real, over a database that `storefront` has filled. Pictures are cut at a height, and kept as PNG of 256
colours, so that all together stay under 4 MB. Look at them: that is what they are for.
"""

import argparse
import asyncio
import base64
import struct
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import Browser, Page, expect

from carafe.dashboard.security.passwords import hash_password
from carafe.testing.databases import Databases
from carafe.testing.servers import Servers
from tests.browser.chromium import chromium
from tests.browser.conftest import PASSWORDS, environment_of
from tests.browser.places import Place, anywhere, of_a_storefront
from tests.browser.storefront import fill, freshen_at
from tests.cli.running import running
from tests.proxy import Proxy

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "screenshots"

LOOKS: dict[str, tuple[Literal["light", "dark"], int, int]] = {
    "light": ("light", 1280, 1270),
    "dark": ("dark", 1280, 1270),
    "phone": ("light", 375, 1300),
}
"""Name: colours, width and greatest height in pixels."""

SHOWN = [
    "overview", "overview-24h", "jobs", "jobs-filtered", "jobs-no-match", "job-running",
    "job-dead", "job-queued", "job-succeeded", "job-edit", "kinds", "kind-paused", "dead", "dead-group",
    "dead-group-replaying", "bulk", "bulk-running", "bulk-new", "workers", "enqueue",
    "enqueue-form", "briefings", "briefing-completed", "audit", "help", "login",
    "forbidden", "not-found",
]  # fmt: skip
"""The places that have a picture."""

EMPTY = ("overview", "jobs", "dead", "workers", "bulk")
"""And those that have one of an empty system too."""

REDUCED = """async (data) => {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, bitmap.width, bitmap.height).data.buffer);
    const counts = new Map();
    for (const pixel of pixels) counts.set(pixel, (counts.get(pixel) ?? 0) + 1);
    const colours = [...counts.keys()];
    const channels = (pixel) => [pixel & 255, (pixel >> 8) & 255, (pixel >> 16) & 255];
    const split = colours.map(channels);
    const least = colours.map(() => Infinity);
    const nearest = new Map();
    const palette = [];
    // Always the colour that the palette so far is furthest off, a frequent one rather than a rare one.
    let next = colours.indexOf([...counts].sort((a, b) => b[1] - a[1])[0][0]);
    while (palette.length < Math.min(256, colours.length)) {
        const [r, g, b] = split[next];
        let most = -1;
        let following = 0;
        split.forEach(([x, y, z], index) => {
            const distance = (r - x) ** 2 + (g - y) ** 2 + (b - z) ** 2;
            if (distance < least[index]) {
                least[index] = distance;
                nearest.set(colours[index], palette.length);
            }
            const weight = least[index] * Math.sqrt(counts.get(colours[index]));
            if (weight > most) [most, following] = [weight, index];
        });
        palette.push([r, g, b]);
        next = following;
    }
    let indices = "";
    for (const pixel of pixels) indices += String.fromCharCode(nearest.get(pixel));
    return [bitmap.width, bitmap.height, palette.flat(), btoa(indices)];
}"""
"""A picture as indices of a palette of 256 colours."""


async def smaller(studio: Page, picture: bytes) -> bytes:
    """The picture as a PNG with a palette. `studio` is an empty page, whose canvas decodes it."""
    width, height, palette, indices = await studio.evaluate(REDUCED, base64.b64encode(picture).decode())
    rows = base64.b64decode(indices)
    lines = b"".join(b"\0" + rows[start : start + width] for start in range(0, width * height, width))

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + chunk(b"PLTE", bytes(palette))
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )


class Photographer:
    """Takes the pictures of one system."""

    def __init__(self, browser: Browser, url: str, database_url: str | None, only: Sequence[str]) -> None:
        """`database_url`: what is kept fresh; None: nothing."""
        self._browser, self._url, self._database_url, self._only = browser, url, database_url, only
        self._cookies: dict[str, Any] = {"": []}

    async def sign_in(self) -> None:
        """As everybody; it lasts for all pictures."""
        for name, password in PASSWORDS.items():
            page = await self._browser.new_page()
            await page.goto(self._url + "/login")
            await page.get_by_label("Name").fill(name)
            await page.get_by_label("Password").fill(password)
            await page.get_by_role("button", name="Sign in").click()
            await expect(page.locator(".viewer-name")).to_have_text(name)
            self._cookies[name] = await page.context.cookies()
            await page.close()

    async def take(self, places: Sequence[Place]) -> None:
        """All of them, in every look."""
        places = [place for place in places if not self._only or place.name in self._only]
        studio = await self._browser.new_page()
        for look, (scheme, width, _) in LOOKS.items() if places else ():
            for who in sorted({place.who for place in places}):
                context = await self._browser.new_context(
                    color_scheme=scheme, viewport={"width": width, "height": 560}, reduced_motion="reduce"
                )
                await context.add_cookies(self._cookies[who])
                page = await context.new_page()
                for place in places:
                    if place.who == who:
                        await self._one(studio, page, place, look)
                await context.close()
        await studio.close()

    async def _one(self, studio: Page, page: Page, place: Place, look: str) -> None:
        _, width, limit = LOOKS[look]
        if self._database_url is not None:
            await freshen_at(self._database_url)
        answer = await page.goto(self._url + place.path)
        assert answer is not None
        assert answer.status == place.status, f"{place.name}: {answer.status}"
        if place.status == 200 and await page.locator("[data-fragment]").count():
            await page.wait_for_selector("#live[data-live=on]")
        height = min(limit, int(await page.evaluate("document.documentElement.scrollHeight")))
        picture = await page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": width, "height": height})
        path = FOLDER / f"{place.name}-{look}.png"
        path.write_bytes(await smaller(studio, picture))
        print(f"{path.stat().st_size / 1000:6.0f} kB  {path.name}", file=sys.stderr)  # noqa: T201


async def photograph(only: Sequence[str]) -> None:
    """Start what is needed, and take all pictures (or only those of some places)."""
    FOLDER.mkdir(exist_ok=True)
    users = ",".join(
        f"{name}:{role}:{hash_password(PASSWORDS[name])}" for name, role in (("ana", "operate"), ("vic", "view"))
    )
    with tempfile.TemporaryDirectory() as folder:
        servers = Servers(Path(folder))
        databases = Databases(servers.postgres_url, ["briefings.migrations"])
        try:
            with databases.fresh() as filled, databases.fresh() as empty:
                front = await fill(filled)
                proxy = Proxy(filled)
                await proxy.listen()
                async with chromium() as browser:
                    for name, url in (("filled", proxy.url), ("empty", empty)):
                        environment = environment_of(
                            url,
                            servers.redis_url,
                            JOB_MODULES="briefings.jobs,tests.browser.storefront",
                            STEWARD="false",
                            DASHBOARD_USERS=users,
                            DASHBOARD_SECRET_KEYS="k" * 40,
                        )
                        with running("serve", folder=Path(folder), **environment) as web:
                            at = (await asyncio.to_thread(web.says, r"dashboard=(http://\S+)"))[1].rstrip("/")
                            if name == "empty":
                                places = [replace(p, name=f"empty-{p.name}") for p in anywhere() if p.name in EMPTY]
                                photographer = Photographer(browser, at, None, only)
                                await photographer.sign_in()
                                await photographer.take(places)
                                continue
                            places = [p for p in [*anywhere(), *of_a_storefront(front)] if p.name in SHOWN]
                            photographer = Photographer(browser, at, filled, only)
                            await photographer.sign_in()
                            await photographer.take(places)
                            await proxy.refuse()
                            await photographer.take([Place("postgres-away", "/jobs", "/jobs", status=503)])
        finally:
            databases.close()
            servers.stop()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", help="names of pages (default: all)")
    asyncio.run(photograph(parser.parse_args().only))


if __name__ == "__main__":
    main()
