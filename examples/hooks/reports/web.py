"""The web application: it accepts a report, and shows what has become of it."""

from fastapi import APIRouter, FastAPI

from carafe import Settings, load_jobs
from carafe.web import ClientOf, create_web_application, transaction
from reports.jobs import WriteReport
from reports.tables import Report

router = APIRouter()


@router.post("/reports/{topic}", status_code=202)
async def request_report(topic: str, client: ClientOf) -> dict[str, int]:
    """Store a report without a text, and the job that writes it."""
    async with transaction(client) as session:
        report = Report(topic=topic)
        session.add(report)
        await session.flush()
        await client.enqueue(WriteReport(report=report.id, topic=topic), session=session)
    return {"report": report.id}


@router.get("/reports/{number}")
async def show_report(number: int, client: ClientOf) -> dict[str, str | None]:
    """Show a report. No job is asked for: the hook has written into the report what there is to know."""
    async with transaction(client) as session:
        report = await session.get_one(Report, number)
    return {"status": report.status, "text": report.text, "error": report.error}


def create_app(settings: Settings) -> FastAPI:
    """Return the application. `carafe dev` and `carafe serve` call this function."""
    load_jobs(settings.job_modules)
    return create_web_application(settings, routers=[router], title="reports")
