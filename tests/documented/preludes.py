"""What each Python example of the documentation takes for granted.

An example is named by its page and the beginning of its first line of code after the imports. A whole one has no entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prelude:
    """Code that stands before an example.

    `within`: the first line of a function, whose body the example is from its first statement on, since it awaits something
    or needs servers. `claims`: a line after the example, by which mypy checks what its comments say.
    `by_pytest`: it has tests, and they are run.
    """

    text: str = ""
    within: str = ""
    claims: str = ""
    by_pytest: bool = False


UNTYPED = "# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False, disallow-untyped-calls=False\n"
"""Users of these pages mostly write no types."""

EXPORT = """
from uuid import UUID
from pydantic import BaseModel
from carafe import Context, Job, handler

class Exported(BaseModel):
    url: str

class Export(Job[Exported], kind="report.export"):
    report_id: UUID
"""

REPORT = """
from uuid import UUID
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Report(Base):
    __tablename__ = "reports"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID | None]
    status: Mapped[str]
    text: Mapped[str]
"""

ORDERS = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

class Base(DeclarativeBase):
    pass

class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str]
"""

FLASK = """
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from carafe import SyncClient, SyncContext, handler, load_settings
from shop.jobs import SendReceipt

class Model(DeclarativeBase):
    pass

app = Flask(__name__)
db = SQLAlchemy(model_class=Model)

class Order(Model):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    receipt_sent: Mapped[bool]

client = SyncClient.from_settings(load_settings())
"""

DJANGO = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["carafe.django", "shop"],
    DATABASES={"default": {"ENGINE": "django.db.backends.postgresql"}},
    CARAFE={"JOB_MODULES": ["shop.jobs"]},
)
django.setup()
"""

WEB = """
from fastapi import APIRouter, FastAPI, Request, Response
from carafe import Client, Job, load_jobs, load_settings
from carafe.web import ClientOf, Operator, carafe_lifespan, mount_jobs_api, transaction
"""

ANYIO = "from carafe import Client, Context, Job, handler, testing\n"

PRELUDES: Mapping[tuple[str, str], Prelude] = {
    ("README.md", 'class GenerateBriefing(Job, kind="briefing.generate", timeout=300, max_retries=3):'): Prelude(
        """
from sqlalchemy.ext.asyncio import AsyncSession
from briefings.model import Briefing
from carafe import Client

Content = dict[str, str]
""",
        within="async def example(client: Client, session: AsyncSession, briefing: Briefing) -> None:",
    ),
    ("docs/jobs.md", "class Exported(BaseModel):"): Prelude(
        'from uuid import UUID\n\nasync def render(report_id: UUID) -> str:\n    return f"https://example.org/{report_id}"\n'
    ),
    ("docs/jobs.md", "class Payment(Job, timeout=5, max_retries=0):"): Prelude(
        "from uuid import UUID\nfrom carafe import Job\n"
    ),
    ("docs/jobs.md", "accepted = await client.enqueue(job)"): Prelude(
        f"{EXPORT}\nfrom typing import assert_type\nfrom carafe import Client\n",
        within="async def example(client: Client, job: Export) -> None:",
        claims="assert_type(record.result, Exported | None)",
    ),
    ("docs/jobs.md", "client.enqueue(job)  # committed when it returns"): Prelude(
        """
from uuid import UUID
from sqlalchemy.orm import Session
from carafe import Job, NewJob, SyncClient
""",
        within="def example(client: SyncClient, job: Job, session: Session, report_id: UUID, key: str) -> None:",
    ),
    ("docs/jobs.md", "report_id = uuid_for(key, scope=user)"): Prelude(
        f"{EXPORT}{REPORT}\nfrom sqlalchemy.ext.asyncio import AsyncSession\nfrom carafe import Client, uuid_for\n",
        within="async def example(client: Client, session: AsyncSession, key: str, user: str) -> None:",
    ),
    (
        "docs/jobs.md",
        "client = SyncClient.connect(",
    ): Prelude(
        """
from typing import Any
from psycopg import Connection
from sqlalchemy.orm import Session
from carafe import Job, SyncClient

Psycopg = Connection[Any]
""",
        within="def example(job: Job, session: Session, connection: Psycopg, database_url: str, redis_url: str) -> None:",
    ),
    ("docs/jobs.md", "@worker_lifespan"): Prelude(EXPORT),
    ("docs/jobs.md", "@handler(Export)"): Prelude(
        f"""{REPORT}
from carafe import Context, Job, handler

class ReportRow(Base):
    __tablename__ = "rows"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    text: Mapped[str]

class Export(Job, kind="report.export"):
    report_id: UUID

async def render(job: Export) -> str:
    return str(job.report_id)
"""
    ),
    ("docs/jobs.md", "@handler(Invoice)"): Prelude(
        """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from carafe import Job, SyncContext, handler

class Base(DeclarativeBase):
    pass

class InvoiceRow(Base):
    __tablename__ = "invoices"
    number: Mapped[int] = mapped_column(primary_key=True)

class Invoice(Job, kind="invoice.write"):
    number: int
"""
    ),
    ("docs/jobs.md", "@hook(Export, State.RUNNING, State.SUCCEEDED, State.DEAD)"): Prelude(f"{EXPORT}{REPORT}"),
    ("docs/jobs.md", 'class Export(Job, kind="report.export", version=2):'): Prelude(
        "from typing import Any\nfrom uuid import UUID\nfrom carafe import Job\n"
    ),
    ("docs/http-api.md", "settings = load_settings()"): Prelude(
        f"""{WEB}{ORDERS}
from pydantic import BaseModel

class NewOrder(BaseModel):
    item: str

class OrderAccepted(BaseModel):
    order_id: int

class Ship(Job, kind="order.ship"):
    order_id: int
"""
    ),
    ("docs/dashboard.md", "def who(request: Request) -> Viewer | None:  # may be async"): Prelude(
        f"{WEB}\nsettings = load_settings()\nclient = Client.from_settings(settings)\n"
    ),
    ("docs/dashboard.md", "router = APIRouter()"): Prelude(
        f"""{WEB}
from pathlib import Path
from fastapi.responses import HTMLResponse
from carafe.dashboard import DashboardOf, FormOf, OperatorOf, ViewerOf, add_page, after, render

app = FastAPI()

async def recent(client: Client) -> list[str]:
    return []
"""
    ),
    ("docs/tracing.md", "tracer = trace.get_tracer(__name__)"): Prelude(
        'from carafe import Context, Job, handler\n\nclass Ship(Job, kind="order.ship"):\n    order: int\n'
    ),
    ("docs/tracing.md", 'with calling("POST", url) as call:'): Prelude(
        "import httpx\nfrom carafe.tracing import calling\n",
        within="async def example(client: httpx.AsyncClient, url: str, order: dict[str, str]) -> None:",
    ),
    (
        "docs/bulk-actions.md",
        'started = await client.start_bulk("retry",',
    ): Prelude("from carafe import Client\n", within="async def example(client: Client) -> None:"),
    ("docs/flask.md", '@app.post("/orders")'): Prelude(UNTYPED + FLASK),
    ("docs/flask.md", "@handler(SendReceipt)"): Prelude(FLASK),
    ("docs/flask.md", "with client.transaction(connection):"): Prelude(
        """
from typing import Any
from psycopg import Connection
from carafe import SyncClient
from shop.jobs import SendReceipt
""",
        within="def example(client: SyncClient, connection: Connection[Any], email: str) -> None:",
    ),
    ("docs/django.md", "def place_order(request):"): Prelude(UNTYPED + DJANGO),
    ("docs/django.md", "@handler(SendReceipt)"): Prelude(DJANGO),
    ("docs/django.md", "class Orders(TestCase):"): Prelude(UNTYPED + DJANGO),
    ("docs/testing.md", "pytestmark = pytest.mark.anyio  # runs the coroutines of this file"): Prelude(
        f"""{UNTYPED}{ANYIO}
class Greet(Job[str], kind="page.greet"):
    name: str

@handler(Greet)
async def greet(job: Greet, ctx: Context) -> str:
    return f"hello {{job.name}}"
""",
        by_pytest=True,
    ),
    ("docs/testing.md", "async def test_an_order_sends_one_mail(carafe_client):"): Prelude(
        f"""{UNTYPED}{ANYIO}
import pytest

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

class SendMail(Job, kind="mail.send"):
    to: str

class Refund(Job, kind="order.refund"):
    order: int

@handler(SendMail)
async def send(job: SendMail, ctx: Context) -> None: ...

async def place_order(client: Client, *, customer: str) -> None:
    await client.enqueue(SendMail(to=f"{{customer.lower()}}@example.org"))
""",
        by_pytest=True,
    ),
    (
        "docs/first-application.md",
        '"""Runs the jobs of shop on a real Postgres and Redis',
    ): Prelude("import shop.handlers\n", by_pytest=True),
}
