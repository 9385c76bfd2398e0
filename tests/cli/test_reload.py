"""`carafe dev --reload`: the application starts again when its files change; its servers, ports and jobs stay."""

import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from carafe.dev.compiling import Compiled
from carafe.dev.reload import _watch, run_reloading
from carafe.dev.sources import Sources
from carafe.settings.settings import Settings, SettingsError
from tests.cli.conftest import process
from tests.cli.running import running
from tests.cli.test_dev import READY, SETTINGS, embedded
from tests.waiting import eventually

pytestmark = pytest.mark.process

OWN = SETTINGS | {"JOB_MODULES": "shop.jobs", "HANDLER_MODULES": "shop.handlers"}

JOBS = """
from carafe import Job

class Say(Job, kind="shop.say"):
    pass

class Hold(Job, kind="shop.hold"):
    pass
"""
HANDLERS = """
import asyncio
from carafe import Context, handler
from shop.jobs import Hold, Say

@handler(Say)
async def say(job: Say, ctx: Context) -> str:
    return {word!r}

@handler(Hold)
async def hold(job: Hold, ctx: Context) -> None:
    await asyncio.Event().wait()
"""


@pytest.fixture
def shop() -> Iterator[Path]:
    """A current folder with an application of its own. Its embedded servers are gone afterwards."""
    # Not pytest's own folder, which each run that begins closes to the account that Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="carafe-shop-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        (folder / "shop").mkdir()
        (folder / "shop" / "__init__.py").touch()
        (folder / "shop" / "jobs.py").write_text(JOBS)
        (folder / "shop" / "handlers.py").write_text(HANDLERS.format(word="one"))
        yield folder
        left = embedded(folder)
        for server in left:
            server.terminate()
        psutil.wait_procs(left, timeout=20)


def said(folder: Path) -> object:
    """What the handler of a new job answers."""
    job = process("enqueue", "shop.say", folder=folder, **OWN).out.strip()
    return json.loads(process("jobs", "wait", job, "--timeout", "30", "--json", folder=folder, **OWN).out)["result"]


def times(pattern: str, number: int) -> str:
    """A pattern that matches what has come so often."""
    return rf"(?s)(?:{pattern}.*){{{number}}}"


def test_a_change_starts_the_application_again_and_nothing_else(shop: Path) -> None:
    handlers = shop / "shop" / "handlers.py"
    with running("dev", "--reload", folder=shop, **OWN) as dev:
        dev.says(READY)
        servers, url = {server.pid for server in embedded(shop)}, dev.says(r"web\s+(http://\S+)")[1]
        assert said(shop) == "one"
        held = process("enqueue", "shop.hold", folder=shop, **OWN).out.strip()
        dev.says(f"job started .*{held} attempt=1")

        handlers.write_text(HANDLERS.format(word="two"))
        dev.says(r"files changed, starting again files=shop/handlers\.py")
        dev.says(times(READY, 2))
        dev.says(times(f"job started [^\n]*{held} attempt=1", 2))  # it was handed back, and has spent nothing
        assert said(shop) == "two"
        assert {server.pid for server in embedded(shop)} & servers == servers
        dev.says(times(rf"web\s+{url}\n", 2))

        handlers.write_text("def (")
        dev.says(r"a file does not compile; mend it file=shop/handlers\.py")
        dev.says(r"SyntaxError")
        dev.says(r"the application that runs goes on")
        assert said(shop) == "two"
        (shop / "shop" / "__init__.py").write_text("# whole")  # another file, and that one is still broken
        dev.says(times("the application that runs goes on", 2))
        assert said(shop) == "two"

        handlers.write_text("import nothing_of_this_name")
        dev.says(r"the application has ended; the next change starts it again")
        assert process("jobs", "list", folder=shop, **OWN).code == 0  # the servers are there
        assert process("jobs", "cancel", held, folder=shop, **OWN).code == 0

        handlers.write_text(HANDLERS.format(word="three"))
        dev.says(times(READY, 3))
        assert said(shop) == "three"
        assert dev.end(signal.SIGINT) == 0
        assert "Traceback" not in dev.output
        assert "asked again" not in dev.output  # nobody has
    assert embedded(shop) == []


async def test_the_application_does_not_outlive_a_killed_parent(shop: Path) -> None:
    with running("dev", "--reload", folder=shop, **OWN) as dev:
        dev.says(READY)
        children = [child for child in psutil.Process(dev.pid).children() if "--stopped-by" in child.cmdline()]
        assert len(children) == 1
        port = dev.says(r"web\s+http://\S+:(\d+)")[1]
        children[0].suspend()  # it ends its jobs for as long as the next ones take to start
        os.kill(dev.pid, signal.SIGKILL)
        assert dev.wait() == -signal.SIGKILL
        for options in ((), ("--reload",)):
            early = process("dev", *options, folder=shop, **(OWN | {"PORT": port}))
            assert early.code == 1
            assert re.search(rf"was killed, and its application is still .*\(kill {children[0].pid}\)", early.err)
            assert "PORT" not in early.err
        children[0].resume()
        await eventually(lambda: not children[0].is_running() or children[0].status() == psutil.STATUS_ZOMBIE, within=30.0)


def test_a_signal_while_nothing_runs_ends_it(shop: Path) -> None:
    (shop / "shop" / "handlers.py").write_text("def (")
    with running("dev", "--reload", folder=shop, **OWN) as dev:
        dev.says(r"the next change starts it again")
        assert dev.end(signal.SIGTERM) == 0
    assert embedded(shop) == []


def test_which_files_count(tmp_path: Path) -> None:
    here = tmp_path.resolve() / ".work" / "project"
    for folder in ("shop/templates", "tests", ".git", "node_modules", "env", "named", "shop/__pycache__"):
        (here / folder).mkdir(parents=True)
    (here / "env" / "pyvenv.cfg").touch()
    sources = Sources(Settings(job_modules=("carafe.cli.declared",), web_application="app.main:app"), here)

    def counts(name: str) -> bool:
        return sources.count(here / name)

    assert {here / "shop", here / "named"} <= set(sources.folders)
    assert not {here / "tests", here / ".git", here / "node_modules", here / "env"} & set(sources.folders)
    assert all(
        map(counts, ("shop/a.py", "shop/templates/a.html", "shop/deep/er/a.sql", "single.py", "env.local", "named/a.py"))
    )
    assert not any(map(counts, ("shop/a.txt", "shop/__pycache__/a.py", "shop/.a.py", "tests/a.py", "env/a.py", "notes.md")))
    package = Path(__import__("carafe").__file__ or "").parent
    assert package in sources.folders, "a package that the settings name, elsewhere"
    assert sources.count(package / "cli" / "jobs.py")


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    here, outside = tmp_path.resolve() / "project", tmp_path.resolve() / "outside"
    for folder in ("shop/web/pages", "shop/web/.cache", "shop/jobs/deep", "plain/deep"):
        (here / folder).mkdir(parents=True)
    outside.mkdir()
    (here / "linked").symlink_to(outside)
    (here / "shop" / "web" / "themes").symlink_to(outside)
    (here / "shop" / "web" / ".cache" / "themes").symlink_to(outside)
    sources = Sources(Settings(job_modules=(), web_application="json:x", worker_application="json:x"), here)
    watched = [path for path in sources.folders if path.is_relative_to(here)]
    assert watched == [here / "plain", here / "shop" / "jobs", here / "shop" / "web" / "pages"]
    assert sources.alone == [here, here / "shop", here / "shop" / "web"]
    assert sources.count(here / "shop" / "web" / "views.py")
    assert sources.count(here / "shop" / "web" / "pages" / "a.html")
    assert not sources.count(outside / "a.py")


def test_a_file_stays_broken_until_it_compiles_or_is_gone(tmp_path: Path) -> None:
    broken, null, whole = tmp_path / "broken.py", tmp_path / "null.py", tmp_path / "whole.py"
    broken.write_text("def (")
    null.write_bytes(b"a = 1\0")
    whole.write_text("raise SystemExit('executed')")
    compiled = Compiled()
    assert "SyntaxError" in compiled.faults([broken, whole])[broken]
    assert set(compiled.faults([null, tmp_path / "page.html"])) == {broken, null}
    null.unlink()
    broken.write_text("")
    assert compiled.faults([whole]) == {}


def test_what_is_missing_is_said(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carafe.dev.reload.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'carafe-jobs\[reload\]'"):
        run_reloading(Settings())


async def test_files_that_cannot_be_watched_are_told(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def watch(*folders: Path, **options: object) -> Iterator[None]:
        raise OSError("the limit of watched folders is reached")

    monkeypatch.setattr("watchfiles.watch", watch)
    with capture_logs() as lines:
        _watch(Sources(Settings(), shop), lambda files: None)
        await eventually(lambda: len(lines) == 2)
    assert {line["error"] for line in lines} == {"the limit of watched folders is reached"}
