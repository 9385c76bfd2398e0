"""The headers of every answer, and which answers may be cached."""

import re
from pathlib import Path

from carafe.dashboard.security.headers import HEADERS
from carafe.dashboard.view.rendering import STATIC, TEMPLATES
from tests.dashboard.conftest import PASSWORDS, Open

PAGES = (
    "/",
    "/jobs",
    "/jobs/01890000-0000-7000-8000-000000000000",
    "/jobs/nonsense",
    "/dead",
    "/bulk",
    "/workers",
    "/enqueue",
    "/audit",
    "/help",
    "/desk",
    "/desk/broken",
    "/login",
    "/nowhere",
    "/livez",
    "/events?topics=nonsense",
    "/static/x/nothing.js",
    "/static/x/..%2f__init__.py",
)


async def test_every_answer_carries_the_headers_and_is_kept_by_nobody(opened: Open) -> None:
    async with opened() as served:
        stranger, visitor = served.visitor(), served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        for who in (stranger, visitor):
            for path in PAGES:
                answer = await who.open(path)
                for name, value in HEADERS.items():
                    assert answer.headers[name] == value, (path, name)
                assert answer.headers["cache-control"] == "no-store", path
                assert "server" not in answer.headers
            refused = await who.send("/desk", token="wrong")
            assert refused.headers["content-security-policy"] == HEADERS["content-security-policy"]


def test_nothing_inline_and_nothing_from_elsewhere_is_allowed() -> None:
    policy = dict(part.split(" ", 1) for part in HEADERS["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert set(policy.values()) == {"'self'", "'none'"}


async def test_errors_say_nothing_of_the_inside(opened: Open) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        broken = await visitor.open("/desk/broken")
        assert broken.status_code == 500
        assert "a secret of the server" not in broken.text
        assert "Traceback" not in broken.text
        assert (await visitor.open("/nowhere/<script>")).status_code == 404
        assert "<script>" not in re.sub(r"<script (src|type)", "", (await visitor.open("/nowhere/<script>")).text)
        fragment = await visitor.open("/nowhere", **{"x-fragment": "1"})
        assert fragment.headers["content-type"].startswith("text/plain")
        assert (await visitor.http.put("/desk", headers={"origin": served.web.url})).status_code in (403, 405, 415)


async def test_static_files_are_kept_under_the_url_that_names_their_content(opened: Open) -> None:
    async with opened() as served:
        visitor = served.visitor()
        page = (await visitor.open("/login")).text
        styles = re.search(r'href="(/static/[^"]+\.css)"', page)
        assert styles
        kept = await visitor.open(styles[1])
        assert kept.status_code == 200
        assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert kept.headers["content-type"].startswith("text/css")
        older = re.sub(r"/static/[^/]+/", "/static/0123/", styles[1])
        assert (await visitor.open(older)).headers["cache-control"] == "no-store"
        unheard_of = ("%00", "dashboard.css%00", "x" * 5_000, "a/" * 2_000, "%ff%fe", "\N{SNOWMAN}", "con", "dashboard.css/")
        outside = ("../__init__.py", "%2e%2e/__init__.py", "..%2f..%2f__init__.py", "", ".", "/etc/passwd")
        for path in outside + unheard_of:
            assert (await visitor.open(f"/static/x/{path}")).status_code == 404, path


def test_no_template_has_anything_inline_and_no_url_by_hand() -> None:
    for file in TEMPLATES.rglob("*.html"):
        text = file.read_text()
        where = file.relative_to(TEMPLATES)
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=\"|javascript:", text), where
        assert not re.search(r"<script(?![^>]*\ssrc=)", text), where
        assert "|safe" not in text.replace(" ", ""), where
        assert not re.search(r'(href|src|action)="(/|https?:)', text), where
        for form in re.findall(r'<form[^>]*method="post".*?</form>', text, re.S):
            assert 'name="token"' in form or "token()" in form, where


def test_no_script_builds_markup_from_text() -> None:
    for file in STATIC.rglob("*.js"):
        text = file.read_text()
        where = file.relative_to(Path(STATIC))
        assert not re.search(r"\beval\(|new Function|document\.write|insertAdjacentHTML|outerHTML\s*=", text), where
