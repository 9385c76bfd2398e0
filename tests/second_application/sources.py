"""The files of the second application: a shop with jobs and handlers of its own, and a FastAPI application named `app`."""

from pathlib import Path

FILES = {
    "shop/__init__.py": "",
    "shop/jobs.py": """
from typing import TYPE_CHECKING
from carafe import Change, Job, hook

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession


class Ship(Job, kind="order.ship", max_retries=0):
    order: int
    to: str


class Bill(Job, kind="order.bill", max_retries=0):
    order: int
    cents: int


@hook(Bill, "succeeded")
async def book(session: "AsyncSession", change: Change[Bill]) -> None:
    from sqlalchemy import text

    await session.execute(text("insert into books values (:order, :cents)"), change.job.model_dump())
""",
    "shop/handlers.py": """
from collections.abc import Iterator
from dataclasses import dataclass
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from carafe import Context, SyncContext, handler, worker_lifespan
from shop.jobs import Bill, Ship


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    bills: Mapped[list["Invoice"]] = relationship(back_populates="order")


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    cents: Mapped[int]
    order: Mapped[Order] = relationship(back_populates="bills")


@dataclass
class Prices:
    vat: float


@worker_lifespan
def prices() -> Iterator[Prices]:
    yield Prices(vat=0.25)


@handler(Bill)
def bill(job: Bill, ctx: SyncContext) -> None:
    with ctx.transaction() as session:
        order = session.scalars(select(Order).where(Order.id == job.order)).one()
        order.bills.append(Invoice(cents=round(job.cents * (1 + ctx.lifespan(prices).vat))))
        session.flush()
        session.expire(order)
        ctx.result = [found.cents for found in order.bills]  # read when it is first asked for, as usual


@handler(Ship)
async def ship(job: Ship, ctx: Context) -> dict[str, str]:
    if not job.to:
        raise ValueError("nowhere to ship it to")
    return {"shipped": f"order {job.order} to {job.to}"}
""",
    "app/__init__.py": "",
    "app/main.py": """
from fastapi import FastAPI
from carafe import Client, load_jobs, load_settings
from carafe.web import ClientOf, carafe_lifespan, mount_jobs_api
from shop.jobs import Bill, Ship

settings = load_settings()
load_jobs(settings.job_modules)
client = Client.from_settings(settings)
application = FastAPI(title="A shop", lifespan=carafe_lifespan(client, settings))
mount_jobs_api(application, client, settings)


@application.post("/orders/{order}", status_code=202)
async def order(order: int, to: str, client: ClientOf) -> dict[str, str]:
    accepted = await client.enqueue(Ship(order=order, to=to))
    return {"job_id": str(accepted.id)}


@application.post("/bills/{order}", status_code=202)
async def bill(order: int, cents: int, client: ClientOf) -> dict[str, str]:
    accepted = await client.enqueue(Bill(order=order, cents=cents))
    return {"job_id": str(accepted.id)}
""",
}


def write(folder: Path) -> Path:
    """Write the application into `folder`, and return it."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip())
    return folder
