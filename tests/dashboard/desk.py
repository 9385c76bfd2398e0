"""A page that an application adds, for these tests: it shows the viewer's name and counts the actions."""

from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from carafe.dashboard import FormOf, OperatorOf, ViewerOf, after, render

TEMPLATES = Path(__file__).parent / "templates"

router = APIRouter()

done: list[tuple[str, str]] = []
"""(who, what) of every act that went through."""


@router.get("/desk")
async def desk(request: Request, viewer: ViewerOf) -> HTMLResponse:
    return render(request, "desk.html")


@router.post("/desk")
async def act(request: Request, operator: OperatorOf, form: FormOf) -> Response:
    done.append((operator.name, str(form.get("what", ""))))
    return after(request, "/desk?again=1", f"Did {form.get('what')}.")


@router.get("/desk/broken")
async def broken(request: Request, viewer: ViewerOf) -> HTMLResponse:
    raise RuntimeError("a secret of the server")
