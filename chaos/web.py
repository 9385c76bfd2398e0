"""The web application under test: the library's job API, and an endpoint with a transaction of its own."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, FastAPI, Header
from pydantic import BaseModel
from sqlalchemy import text

from carafe import Settings, load_jobs
from carafe.web import ClientOf, create_web_application, transaction
from chaos.jobs import Ordered

router = APIRouter()


class NewOrder(BaseModel):
    """What is ordered, by a name of the caller's."""

    tag: str


class AcceptedOrder(BaseModel):
    """The order's job."""

    id: UUID


@router.post("/orders", status_code=202)
async def order(new: NewOrder, client: ClientOf, idempotency_key: Annotated[str, Header()]) -> AcceptedOrder:
    """An order's row and its job, in one commit."""
    async with transaction(client) as session:
        accepted = await client.enqueue(
            Ordered(tag=new.tag), session=session, idempotency_key=idempotency_key, scope="orders"
        )
        if not accepted.replayed:
            await session.execute(
                text("insert into chaos.orders (tag, job_id) values (:tag, :id)"), {"tag": new.tag, "id": accepted.id}
            )
    return AcceptedOrder(id=accepted.id)


def create_app(settings: Settings) -> FastAPI:
    """WEB_APPLICATION."""
    load_jobs(settings.job_modules)
    return create_web_application(settings, routers=[router], title="Chaos")
