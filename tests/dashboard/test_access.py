"""Who may enter, who may act, and what a request that changes something must carry."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from carafe.dashboard import DashboardOf, FormOf, OperatorOf, Refused, Viewer, dependencies
from carafe.dashboard.security.sessions import SESSION_LIFETIME, Keys, Session
from carafe.settings.settings import Settings
from tests.dashboard.conftest import KEY, PASSWORDS, Open
from tests.dashboard.visiting import TOKEN, Visitor
from tests.waiting import eventually

Acts = list[tuple[str, str]]

NOBODY: dict[str, Any] = {"dashboard_users": ()}


async def test_nobody_gets_in_without_signing_in(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        visitor = served.visitor()
        page = await visitor.open("/desk?kind=a%20b&x=1")
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=/desk%3Fkind%3Da%2520b%26x%3D1")
        assert (await visitor.open("/desk", **{"x-fragment": "1"})).status_code == 401
        assert (await visitor.open("/events?topics=jobs")).status_code == 401
        form = await visitor.open("/login")
        assert form.status_code == 200
        assert (await visitor.send("/desk", what="harm")).status_code == 401
    assert acts == []


async def test_a_form_from_elsewhere_signs_nobody_out(opened: Open) -> None:
    async with opened() as served:
        visitor = served.visitor()
        # The browser keeps the cookie from a form of another site, and would take a new one from its answer.
        visitor.origin = "https://evil.example.com"
        answer = await visitor.send("/desk", what="harm", token="")
        assert answer.status_code in (401, 403)
        assert "carafe_dashboard=" not in answer.headers.get("set-cookie", "")


async def test_signing_in_leads_on_to_the_page_that_was_asked_for(opened: Open) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.open("/login")
        before = visitor.cookie
        answer = await visitor.sign_in("ana", PASSWORDS["ana"], next="/desk?again=1")
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk?again=1")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert f"Max-Age={SESSION_LIFETIME}" in cookie
        assert "Secure" not in cookie
        # A session planted before is worth nothing after: this is another one, not the same with a name.
        keys = Keys([KEY])
        old, new = Session.read(before, keys), Session.read(visitor.cookie, keys)
        assert old is not None
        assert new is not None
        assert (old.name, new.name) == ("", "ana")
        assert old.nonce != new.nonce
        page = await visitor.open("/desk")
        assert page.status_code == 200
        assert "Desk of ana" in page.text
        # Who is signed in has no need of the form.
        assert (await visitor.open("/login?next=/desk")).headers["location"] == "/desk"


async def test_the_session_names_who_and_never_the_role_or_the_password(opened: Open) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        found = Keys([KEY]).read("session", visitor.cookie, SESSION_LIFETIME)
        assert found is not None
        text = str(found)
        assert "ana" in text
        for hidden in ("operate", PASSWORDS["ana"], "argon2"):
            assert hidden not in text


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "/login?next=/", "evil", "/x\n", "/" * 3_000]
)
async def test_signing_in_never_leads_elsewhere(opened: Open, target: str) -> None:
    async with opened() as served:
        visitor = served.visitor()
        answer = await visitor.sign_in("ana", PASSWORDS["ana"], next=target)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_signing_out_ends_the_session_here(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        await visitor.open("/desk")
        token = visitor.token
        answer = await visitor.send("/logout")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        assert "You have signed out." in (await visitor.open("/login")).text
        assert (await visitor.open("/desk")).status_code == 303
        assert (await visitor.send("/desk", what="harm", token=token)).status_code == 403
    assert acts == []


async def test_who_may_look_may_not_act(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("vic", PASSWORDS["vic"])
        assert (await visitor.open("/desk")).status_code == 200
        answer = await visitor.send("/desk", what="harm")
        assert answer.status_code == 403
        assert "vic has the role view" in answer.text
        assert acts == []
        operator = served.visitor()
        await operator.sign_in("ana", PASSWORDS["ana"])
        await operator.open("/desk")
        answer = await operator.send("/desk", what="good")
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk?again=1")
        assert acts == [("ana", "good")]
        # Said once.
        assert "Did good." in (await operator.open("/desk?again=1")).text
        assert "Did good." not in (await operator.open("/desk?again=1")).text


async def test_what_was_said_is_for_the_session_it_was_said_to(opened: Open) -> None:
    async with opened() as served:
        operator, other = served.visitor(), served.visitor()
        await operator.sign_in("ana", PASSWORDS["ana"])
        await operator.open("/desk")
        await operator.send("/desk", what="<b>good</b>")
        await other.sign_in("ana", PASSWORDS["ana"])
        other.http.cookies.set("carafe_flash", operator.http.cookies["carafe_flash"])
        assert "Did " not in (await other.open("/desk")).text
        shown = (await operator.open("/desk")).text
        assert "Did &lt;b&gt;good&lt;/b&gt;." in shown


FOREIGN = [
    "https://evil.example",
    "http://127.0.0.1:1",
    "null",
    "http://127.0.0.1",
    "file://",
    "http://user@{host}",
    "http://{host}/",
    "http://{host}.evil.example",
    None,
]


@pytest.mark.parametrize("origin", FOREIGN)
async def test_an_unsafe_request_needs_our_origin(opened: Open, acts: Acts, origin: str | None) -> None:
    async with opened() as served:
        visitor = served.visitor()
        host = urlsplit(served.web.url).netloc
        forged = None if origin is None else origin.format(host=host)
        await visitor.open("/login")
        visitor.origin = forged
        refused = await visitor.send("/login", name="ana", password=PASSWORDS["ana"])
        assert refused.status_code == 403
        assert "nothing was done" in refused.text
        visitor.origin = served.web.url
        await visitor.sign_in("ana", PASSWORDS["ana"])
        await visitor.open("/desk")
        visitor.origin = forged
        assert (await visitor.send("/desk", what="harm")).status_code == 403
        assert (await visitor.send("/logout")).status_code == 403
        assert acts == []
        visitor.origin = served.web.url
        assert (await visitor.send("/desk", what="good")).status_code == 303


async def test_a_request_that_the_browser_calls_cross_site_is_refused_whatever_its_origin(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        await visitor.open("/desk")
        visitor.headers["sec-fetch-site"] = "same-site"
        assert (await visitor.send("/desk", what="harm")).status_code == 403
        visitor.headers["sec-fetch-site"] = "same-origin"
        assert (await visitor.send("/desk", what="good")).status_code == 303
    assert acts == [("ana", "good")]


async def test_an_unsafe_request_needs_the_token_of_its_own_session(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        visitor, other = served.visitor(), served.visitor()
        await other.sign_in("ana", PASSWORDS["ana"])
        await other.open("/desk")
        before = await visitor.open("/login")
        assert before.status_code == 200
        for token in ("", None, "wrong", "ü", other.token):
            refused = await visitor.send("/login", name="ana", password=PASSWORDS["ana"], token=token)
            assert refused.status_code == 403, token
        anonymous = visitor.token
        await visitor.sign_in("ana", PASSWORDS["ana"])
        await visitor.open("/desk")
        for token in ("", None, "wrong", "ü", other.token, anonymous):
            refused = await visitor.send("/desk", what="harm", token=token)
            assert refused.status_code == 403, token
            assert "Reload" in refused.text
        assert acts == []
        headers = {"origin": served.web.url, "x-carafe-token": visitor.token}
        assert (await visitor.http.post("/desk", data={"what": "by script"}, headers=headers)).status_code == 303
    assert acts == [("ana", "by script")]


async def test_a_session_ends_after_twelve_hours_whatever_was_done(opened: Open, acts: Acts) -> None:
    async with opened() as served:
        now = 2_000_000_000.0
        served.dashboard.clock = lambda: now
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        now += SESSION_LIFETIME - 1
        assert (await visitor.open("/desk")).status_code == 200
        now += 1
        assert (await visitor.open("/desk")).status_code == 303
        assert (await visitor.send("/desk", what="harm")).status_code == 403
    assert acts == []


async def test_a_changed_password_or_a_user_taken_out_ends_the_sessions(opened: Open, users: str) -> None:
    vics = users.split("vic:view:")[1]
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        cookie = visitor.cookie

    async def lets_in(**settings: Any) -> bool:
        async with opened(**settings) as served:
            visitor = served.visitor()
            visitor.http.cookies.set("carafe_dashboard", cookie)
            return (await visitor.open("/desk")).status_code == 200

    assert await lets_in()
    assert not await lets_in(dashboard_users=f"ana:operate:{vics}")
    assert not await lets_in(dashboard_users=f"vic:view:{vics}")


async def test_a_role_counts_from_the_next_request_on(opened: Open, users: str, acts: Acts) -> None:
    async with opened() as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        cookie = visitor.cookie
    async with opened(dashboard_users=users.replace("ana:operate", "ana:view")) as served:
        visitor = served.visitor()
        visitor.http.cookies.set("carafe_dashboard", cookie)
        assert "views" in (await visitor.open("/desk")).text
        assert (await visitor.send("/desk", what="harm")).status_code == 403
    assert acts == []


async def test_the_first_key_signs_and_all_verify(opened: Open) -> None:
    new, old = "n" * 40, "o" * 40
    cookies: dict[str, str] = {}
    for keys in (old, f"{new},{old}"):
        async with opened(dashboard_secret_keys=keys) as served:
            visitor = served.visitor()
            await visitor.sign_in("ana", PASSWORDS["ana"])
            cookies[keys] = visitor.cookie

    async def lets_in(cookie: str, keys: str) -> bool:
        async with opened(dashboard_secret_keys=keys) as served:
            visitor = served.visitor()
            visitor.http.cookies.set("carafe_dashboard", cookie)
            page = await visitor.open("/desk")
            return page.status_code == 200 and (await visitor.send("/desk", what="x")).status_code == 303

    by_old, by_both = cookies[old], cookies[f"{new},{old}"]
    assert await lets_in(by_old, f"{new},{old}")
    assert await lets_in(by_both, new)
    assert not await lets_in(by_old, new)
    assert not await lets_in(by_both, old)


def test_a_forged_or_broken_cookie_is_no_session() -> None:
    keys = Keys([KEY])
    session = Session.begin("ana", "f")
    good = session.signed(keys)
    assert Session.read(good, keys) == session
    body, _, signature = good.rpartition(".")
    other = keys.sign("flash", ["ana", "ana", "f"], session.began)
    for forged in ("", ".", "x", good[:-1], f"{body}.", f".{signature}", f"{body}x.{signature}", "ü.ü", other, f"{good}.x"):
        assert Session.read(forged, keys) is None, forged
    assert Session.read(good, Keys(["z" * 40])) is None
    assert Session.read(good, keys, clock=lambda: session.began - 301) is None


async def test_a_name_from_the_proxy_counts_only_from_its_networks(opened: Open, acts: Acts) -> None:
    proxied: dict[str, Any] = {
        "dashboard_user_header": "X-Forwarded-User",
        "dashboard_operators": "ana",
        "dashboard_users": (),
    }
    async with opened(**proxied, dashboard_proxy_networks="127.0.0.0/8") as served:
        ana, eve = served.visitor(**{"x-forwarded-user": "ana"}), served.visitor(**{"x-forwarded-user": "eve"})
        assert "Desk of ana" in (await ana.open("/desk")).text
        assert (await ana.send("/desk", what="good")).status_code == 303
        assert "Desk of eve" in (await eve.open("/desk")).text
        assert (await eve.send("/desk", what="harm")).status_code == 403
        nameless = served.visitor()
        assert (await nameless.open("/desk")).status_code == 403
        assert (await nameless.open("/login")).status_code == 403
    async with opened(**proxied, dashboard_proxy_networks="10.0.0.0/8") as served:
        refused = await served.visitor(**{"x-forwarded-user": "ana"}).open("/desk")
        assert refused.status_code == 403
        assert "DASHBOARD_PROXY_NETWORKS" in refused.text
    async with opened(**(proxied | {"dashboard_operators": "*"}), dashboard_proxy_networks="127.0.0.1") as served:
        eve = served.visitor(**{"x-forwarded-user": "eve"})
        await eve.open("/desk")
        assert (await eve.send("/desk", what="good")).status_code == 303
    assert acts == [("ana", "good"), ("eve", "good")]


async def test_of_two_names_none_counts(opened: Open) -> None:
    async with opened(
        dashboard_user_header="X-User", dashboard_operators="ana", dashboard_users=(), dashboard_proxy_networks="127.0.0.1"
    ) as served:
        visitor = served.visitor()
        # The first line is the browser's own where a proxy adds one instead of replacing it.
        answer = await visitor.http.get("/desk", headers=[("x-user", "ana"), ("x-user", "eve")])
        assert answer.status_code == 403
        assert "came 2 times" in answer.text


async def test_a_line_that_a_proxy_has_added_counts_before_the_browsers_own(opened: Open) -> None:
    async with opened(dashboard_proxy_networks="127.0.0.1") as served:
        visitor = served.visitor()
        lines = [
            *(("x-forwarded-proto", said) for said in ("http", "https")),
            *(("x-forwarded-host", said) for said in ("evil.example", "ops.example.org")),
        ]
        form = await visitor.http.get("/login", headers=lines)
        assert form.headers["set-cookie"].startswith("__Host-carafe_dashboard=")
        token = TOKEN.search(form.text)
        assert token is not None
        fields = {"name": "ana", "password": "wrong", "token": token[1]}
        cookie = ("cookie", form.headers["set-cookie"].partition(";")[0])
        statuses = []
        for number in range(6):
            headers = [
                *lines,
                cookie,
                ("origin", "https://ops.example.org"),
                *(("x-forwarded-for", said) for said in (f"10.0.0.{number}", "192.0.2.1")),
            ]
            statuses.append((await visitor.http.post("/login", data=fields, headers=headers)).status_code)
        assert statuses[:3] == [401] * 3
        assert 429 in statuses, "another address for each try would be another count for each"


async def test_who_does_not_come_through_the_proxy_may_sign_in(opened: Open) -> None:
    async with opened(dashboard_user_header="X-User", dashboard_proxy_networks="10.0.0.0/8") as served:
        visitor = served.visitor(**{"x-user": "ana"})
        assert (await visitor.open("/desk")).status_code == 303
        assert (await visitor.sign_in("vic", PASSWORDS["vic"])).status_code == 303
        assert "Desk of vic" in (await visitor.open("/desk")).text


async def test_https_is_believed_of_the_proxy_alone(opened: Open) -> None:
    forwarded = {"x-forwarded-proto": "https", "x-forwarded-host": "ops.example.org"}
    async with opened(dashboard_proxy_networks="127.0.0.0/8") as served:
        visitor = served.visitor(**forwarded)
        visitor.origin = "https://ops.example.org"
        form = await visitor.open("/login")
        cookie = form.headers["set-cookie"]
        assert cookie.startswith("__Host-carafe_dashboard=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        # httpx keeps a Secure cookie to itself over http; a browser would not, for it sees https.
        sent = {"cookie": cookie.partition(";")[0], "origin": "https://ops.example.org", **forwarded}
        fields = {"name": "ana", "password": PASSWORDS["ana"], "token": visitor.token}
        assert (await visitor.http.post("/login", data=fields, headers=sent)).status_code == 303
        downgraded = sent | {"origin": "http://ops.example.org"}
        assert (await visitor.http.post("/login", data=fields, headers=downgraded)).status_code == 403
    async with opened(dashboard_proxy_networks="10.0.0.0/8") as served:
        visitor = served.visitor(**forwarded)
        form = await visitor.open("/login")
        assert form.headers["set-cookie"].startswith("carafe_dashboard=")
        visitor.origin = "https://ops.example.org"
        assert (await visitor.send("/login", name="ana", password=PASSWORDS["ana"])).status_code == 403


async def test_open_on_this_machine_means_asked_for_as_localhost(opened: Open, acts: Acts) -> None:
    async with opened(**NOBODY) as served:
        port = served.web.port
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", "carafe.localhost"):
            assert (await served.visitor(host=host).open("/desk")).status_code == 200, host
        for host in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "10.1.2.3"):
            refused = await served.visitor(host=host).open("/desk")
            assert refused.status_code == 403, host
            assert "DASHBOARD_USERS" in refused.text
        visitor = served.visitor()
        await visitor.open("/desk")
        assert (await visitor.send("/desk", what="good")).status_code == 303
        visitor.origin = "http://evil.example"
        assert (await visitor.send("/desk", what="harm")).status_code == 403
        assert (await visitor.open("/login")).headers["location"] == "/"
    assert acts == [("anybody", "good")]


async def test_open_to_everybody_is_said_in_so_many_words(opened: Open) -> None:
    async with opened(**NOBODY, dashboard_open="everybody", dashboard_hosts="ops.example.org") as served:
        for host in (
            "ops.example.org",
            "OPS.example.org.:81",
            "10.1.2.3:8081",
            "[fd00::1]",
            "carafe-web",
            "carafe.prod.svc",
        ):
            assert (await served.visitor(host=host).open("/desk")).status_code == 200, host
        # A stranger's page may have pointed its own name here.
        for host in ("evil.example", "ops.example.org.evil.example", "10.1.2.3.evil.example", "[", ""):
            refused = await served.visitor(host=host).open("/desk")
            assert refused.status_code == 403, host
            assert "DASHBOARD_HOSTS" in refused.text
    # What came to a listed proxy by https has shown its certificate.
    async with opened(**NOBODY, dashboard_open="everybody", dashboard_proxy_networks="127.0.0.1") as served:
        forwarded = {"x-forwarded-host": "ops.example.org", "x-forwarded-proto": "https"}
        assert (await served.visitor(**forwarded).open("/desk")).status_code == 200
        assert (await served.visitor(**forwarded | {"x-forwarded-proto": "http"}).open("/desk")).status_code == 403
    async with opened(**NOBODY, dashboard_open="never") as served:
        assert (await served.visitor().open("/desk")).status_code == 403
    # Users are users, whatever is open besides.
    async with opened(dashboard_open="everybody") as served:
        assert (await served.visitor().open("/desk")).status_code == 303


@pytest.mark.parametrize(
    ("values", "opens"),
    [
        ({}, "localhost"),
        ({"host": "0.0.0.0", "allow_open_api": True}, "never"),
        ({"host": "0.0.0.0", "allow_open_api": True, "dashboard_open": "localhost"}, "localhost"),
        ({"environment": "production"}, "never"),
        ({"environment": "production", "host": "127.0.0.1"}, "never"),
        ({"environment": "production", "dashboard_open": "localhost", "dashboard_secret_keys": KEY}, "localhost"),
    ],
)
def test_it_is_open_by_itself_only_in_development_on_this_machine(values: dict[str, Any], opens: str) -> None:
    required = {"database_url": "postgresql://a@b/c", "redis_url": "redis://b", "api_tokens": "a:view:" + "0" * 64}
    assert Settings.model_validate({**required, **values}).dashboard_opens_to == opens


async def test_production_is_closed_until_somebody_is_let_in(opened: Open) -> None:
    async with opened(
        **NOBODY, environment="production", host="127.0.0.1", api_tokens="a:view:" + "0" * 64, dashboard_secret_keys=()
    ) as served:
        for path in ("/desk", "/login", "/", "/jobs"):
            refused = await served.visitor().open(path)
            assert refused.status_code == 403, path
            assert "carafe dashboard hash-password" in refused.text


@pytest.mark.parametrize(("who", "sees"), [("view", (True, True)), ("operate", (True, False)), ("never", (False, False))])
async def test_arguments_are_shown_to_whom_the_settings_say(opened: Open, who: str, sees: tuple[bool, bool]) -> None:
    async with opened(dashboard_args=who) as served:
        for name, shown in zip(("ana", "vic"), sees, strict=True):
            visitor = served.visitor()
            await visitor.sign_in(name, PASSWORDS[name])
            assert (", sees arguments" in (await visitor.open("/desk")).text) is shown


async def test_an_application_may_say_itself_who_looks(opened: Open, acts: Acts) -> None:
    async def authenticate(request: Any) -> Viewer | None:
        name = request.headers.get("x-employee")
        if name == "away":
            raise Refused(303, "Sign in", "elsewhere", headers={"Location": "https://id.example.org"})
        return Viewer(name, operates=name == "ana", sees_args=True) if name else None

    async with opened(authenticate=authenticate, dashboard_args="operate") as served:
        ana = served.visitor(**{"x-employee": "ana"})
        page = await ana.open("/desk")
        assert "operates, sees" in page.text
        assert "/logout" not in page.text
        assert (await ana.send("/desk", what="good")).status_code == 303
        ben = served.visitor(**{"x-employee": "ben"})
        assert "views, does not see" in (await ben.open("/desk")).text
        assert (await ben.send("/desk", what="harm")).status_code == 403
        nobody = served.visitor()
        assert (await nobody.open("/desk")).status_code == 401
        # The users of the settings are not asked.
        assert (await nobody.open("/login")).status_code == 401
        away = await served.visitor(**{"x-employee": "away"}).open("/desk")
        assert (away.status_code, away.headers["location"]) == (303, "https://id.example.org")
    assert acts == [("ana", "good")]


async def test_every_route_but_these_asks_who_looks(opened: Open) -> None:
    """A page that forgot its dependency would let anybody in."""
    free = {"/login", "/logout", "/livez", "/static/{version}/{path:path}"}
    async with opened() as served:
        stranger = served.visitor()
        await stranger.open("/login")
        seen = 0
        for path, methods in routes(served.dashboard.application):
            if path in free:
                continue
            example = path
            for name in ("job_id", "bulk_id", "worker_id", "id"):
                example = example.replace(f"{{{name}}}", "01890000-0000-7000-8000-000000000000")
            example = example.replace("{kind}", "a.b").replace("{fingerprint}", "f").replace("{action}", "retry")
            for method in methods:
                if method == "GET":
                    answer = await stranger.open(example)
                    allowed = {303} if example != "/events" else {401}
                else:
                    answer = await stranger.send(example)
                    allowed = {401}
                assert answer.status_code in allowed, (method, path, answer.status_code)
                if answer.status_code == 303:
                    assert answer.headers["location"].startswith("/login")
                seen += 1
        assert seen > 10


def routes(app: Any) -> list[tuple[str, list[str]]]:
    """(path, methods) of everything that the application answers."""
    found: list[tuple[str, list[str]]] = []
    waiting = list(app.routes)
    while waiting:
        route = waiting.pop()
        included = getattr(route, "original_router", None)
        if included is not None:
            waiting += included.routes
            continue
        found.append((route.path, sorted(set(route.methods) - {"HEAD"})))
    return found


async def test_a_form_is_a_form_and_has_an_end(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(job_args_limit=1_024) as served:
        visitor = served.visitor()
        await visitor.sign_in("ana", PASSWORDS["ana"])
        headers = {"origin": served.web.url}
        for content, media, status in (
            (b"{}", "application/json", 415),
            (b"a=%ff", "application/x-www-form-urlencoded", 422),
            (b"&".join([b"a=1"] * 20_001), "application/x-www-form-urlencoded", 422),
            (b"a=" + b"x" * 1_100_000, "application/x-www-form-urlencoded", 413),
        ):
            sent: httpx.Response = await visitor.http.post(
                "/desk", content=content, headers=headers | {"content-type": media}
            )
            assert sent.status_code == status


async def test_another_sites_page_gets_no_page_and_no_stream(opened: Open) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    everybody = {**NOBODY, "dashboard_open": "everybody"}
    for changes, who in ((NOBODY, None), (everybody, None), ({}, "ana")):
        async with opened(**changes) as served:
            visitor = served.visitor()
            if who:
                await visitor.sign_in(who, PASSWORDS[who])
            for elsewhere in (
                {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
                {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors", "origin": "https://evil.example"},
                {"origin": "https://evil.example"},
                {"origin": "null"},
                {**link, "sec-fetch-dest": "iframe"},
            ):
                for path in ("/desk", "/events?topics=jobs"):
                    assert (await visitor.open(path, **elsewhere)).status_code == 403, (changes, elsewhere, path)
            assert served.dashboard.streams.open == 0
            for here in (link, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {"origin": served.web.url}):
                assert (await visitor.open("/desk", **here)).status_code == 200, (changes, here)


async def test_a_form_has_its_place_for_as_long_as_it_is_used(opened: Open) -> None:
    router = APIRouter()
    held: list[int] = []

    @router.post("/held")
    async def page(operator: OperatorOf, form: FormOf, dashboard: DashboardOf) -> PlainTextResponse:
        held.append(dashboard.bodies._held)
        return PlainTextResponse("")

    async with opened(**NOBODY) as served:
        served.dashboard.add_page("Held", router, path="/held")
        visitor = served.visitor()
        await visitor.open("/desk")
        assert (await visitor.send("/held", what="y" * 100_000)).status_code == 200
        assert held[0] > 100_000
        await eventually(lambda: served.dashboard.bodies._held == 0)


async def test_a_form_of_nobody_is_small(opened: Open) -> None:
    async with opened() as served:
        form, media = b"name=ana&password=" + b"x" * 20_000, {"content-type": "application/x-www-form-urlencoded"}

        async def unannounced() -> AsyncIterator[bytes]:
            for place in range(0, len(form), 1_000):
                yield form[place : place + 1_000]

        for content in (form, unannounced()):
            visitor = served.visitor()
            await visitor.open("/login")
            for path in ("/login", "/desk"):
                sent = await visitor.http.post(path, content=content, headers=media | {"origin": served.web.url})
                assert sent.status_code == 413, path
                if content is not form:
                    break
        ana = served.visitor()
        await ana.sign_in("ana", PASSWORDS["ana"])
        await ana.open("/desk")
        assert (await ana.send("/desk", what="y" * 20_000)).status_code == 303


def test_which_methods_are_safe() -> None:
    assert {"GET", "HEAD", "OPTIONS"} == dependencies.SAFE_METHODS


async def test_a_user_of_the_wrong_case_or_with_spaces_is_another(opened: Open) -> None:
    async with opened() as served:
        for name in ("Ana", "ana\u200b", "a na"):
            assert (await Visitor(served.visitor().http).sign_in(name, PASSWORDS["ana"])).status_code == 401
