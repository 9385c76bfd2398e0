"""The Chromium that the tests drive: the system's where there is one, else Playwright's own (`.ci/chromium` installs it).

On a machine without Chromium the tests fail with a message that says how to install it; they are never skipped.
"""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright
from playwright.async_api import Error as PlaywrightError

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome")

HINT = (
    "no Chromium can be started, so nobody knows whether the dashboard works in a browser. `make test` installs one;"
    " by hand: apt-get install chromium-headless-shell, or python -m playwright install chromium. {error}"
)


def system_chromium() -> str | None:
    """The path of the system's Chromium, or of a Chrome; of one without a window's parts if any, for a third less work."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A headless Chromium. Raises AssertionError, in words, where none can be had."""
    async with async_playwright() as playwright:
        try:
            browser = await playwright.chromium.launch(
                executable_path=system_chromium(),
                # Root has no sandbox; a container's /dev/shm is small.
                args=[*(["--no-sandbox"] if os.geteuid() == 0 else []), "--disable-dev-shm-usage"],
            )
        except PlaywrightError as error:
            raise AssertionError(HINT.format(error=error)) from None
        try:
            yield browser
        finally:
            await browser.close()
