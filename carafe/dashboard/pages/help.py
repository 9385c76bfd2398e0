"""The help page: keyboard shortcuts, what the search box accepts, what states and charts mean. With JavaScript it opens as a
dialog."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from carafe.dashboard.dependencies import ViewerOf
from carafe.dashboard.view.rendering import render

router = APIRouter()


@router.get("/help")
async def help_page(request: Request, viewer: ViewerOf) -> HTMLResponse:
    """The help page. The script dialogs.js fetches it and shows its content in a dialog."""
    return render(request, "help.html")
