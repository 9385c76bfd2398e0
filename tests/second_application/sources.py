"""The files of the second application: a shop with jobs and handlers of its own, and a FastAPI application named `app`."""

from pathlib import Path

FILES = {
    "shop/__init__.py": "",
    "shop/jobs.py": """
from carafe import Job


class Ship(Job, kind="order.ship", max_retries=0):
    order: int
    to: str
""",
    "shop/handlers.py": """
from carafe import Context, handler
from shop.jobs import Ship


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
from shop.jobs import Ship

settings = load_settings()
load_jobs(settings.job_modules)
client = Client.from_settings(settings)
application = FastAPI(title="A shop", lifespan=carafe_lifespan(client, settings))
mount_jobs_api(application, client, settings)


@application.post("/orders/{order}", status_code=202)
async def order(order: int, to: str, client: ClientOf) -> dict[str, str]:
    accepted = await client.enqueue(Ship(order=order, to=to))
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
