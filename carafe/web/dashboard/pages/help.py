"""Help: the keys, what the search box takes, what the states and the charts mean. With JavaScript a dialog, else a page."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from carafe.web.dashboard.access import ViewerOf
from carafe.web.dashboard.rendering import render

router = APIRouter()


@router.get("/help")
async def help_page(request: Request, viewer: ViewerOf) -> HTMLResponse:
    """The page; dialogs.js takes the help out of it."""
    return render(request, "help.html")
