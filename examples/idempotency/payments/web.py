"""The web application: a request that is repeated gets the first answer, and a reminder that waits is not doubled."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, Header
from pydantic import BaseModel

from carafe import Settings, load_jobs, uuid_for
from carafe.web import ClientOf, create_web_application, transaction
from payments.jobs import Charge, Remind
from payments.tables import Payment

router = APIRouter()

Key = Annotated[str, Header(alias="Idempotency-Key", min_length=1, max_length=500)]


class NewPayment(BaseModel):
    """The body of a request."""

    cents: int


@router.post("/payments", status_code=202)
async def pay(new: NewPayment, key: Key, client: ClientOf) -> dict[str, object]:
    """Store a payment and its job once for each key, however often the request is sent.

    A key is remembered for a day (RETENTION_IDEMPOTENCY). After that, the payment's primary key refuses a second payment.
    """
    payment_id = uuid_for(key, scope="payments")  # the same id each time
    async with transaction(client) as session:
        charge = Charge(payment=payment_id, cents=new.cents)
        job = await client.enqueue(charge, session=session, idempotency_key=key, scope="payments")
        if not job.replayed:
            session.add(Payment(id=payment_id, cents=new.cents))
    return {"payment": payment_id, "job": job.id, "replayed": job.replayed}


@router.post("/invoices/{number}/reminder", status_code=202)
async def send_reminder(number: int, client: ClientOf) -> dict[str, object]:
    """Remind in an hour. While that reminder waits, it is the only one of its invoice."""
    job = await client.enqueue(Remind(invoice=number), delay=3600, unique_key=f"reminder:{number}")
    return {"job": job.id, "existing": job.existing}


def create_app(settings: Settings) -> FastAPI:
    """Return the application. `carafe dev` and `carafe serve` call this function."""
    load_jobs(settings.job_modules)
    return create_web_application(settings, routers=[router], title="payments")
