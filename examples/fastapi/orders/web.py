"""The web application: its routes store an order and its job in one transaction, and follow both."""

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from carafe import Settings, load_jobs
from carafe.web import ClientOf, ProblemError, create_web_application, transaction
from orders.jobs import ConfirmOrder
from orders.tables import Order

router = APIRouter()


class NewOrder(BaseModel):
    """The body of a request."""

    item: str


@router.post("/orders", status_code=202)
async def place_order(new: NewOrder, client: ClientOf) -> dict[str, int]:
    """Store an order and its job. Both are committed at the end of the block; after an error there is neither."""
    async with transaction(client) as session:
        order = Order(item=new.item)
        session.add(order)
        await session.flush()  # the order has its number now
        job = await client.enqueue(ConfirmOrder(order=order.id), session=session)
        order.job_id = job.id
    return {"order": order.id}


@router.get("/orders/{number}")
async def show_order(number: int, client: ClientOf) -> dict[str, object]:
    """Say whether an order was confirmed, and in which state its job is."""
    async with transaction(client) as session:
        order = await session.get(Order, number)
    if order is None or order.job_id is None:
        raise ProblemError(404, "order-not-found", f"no order {number}")
    job = await client.get(order.job_id)
    return {"item": order.item, "confirmed": order.confirmed, "job": job.state}


def create_app(settings: Settings) -> FastAPI:
    """Return the application. `carafe dev` and `carafe serve` call this function."""
    load_jobs(settings.job_modules)
    return create_web_application(settings, routers=[router], title="orders")
