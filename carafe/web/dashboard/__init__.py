"""The dashboard: see everything, act on anything, live. Server-rendered pages on a port or under a path of their own.

Guarantees: closed unless somebody was let in or development on this machine lets everybody in; every unsafe request
carries a matching Origin and a token of its session; what it reads it reads over a small read-only pool of its own.
Must never: show a secret argument, render anything unescaped, or hold up the process's exit.

What a page is built on, in this package and in an application's own pages:

    router = APIRouter()

    @router.get("/briefings")
    async def briefings(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> HTMLResponse:
        return render(request, "briefings.html", briefings=await …)

    @router.post("/briefings")
    async def create(request: Request, operator: OperatorOf, form: FormOf) -> Response:
        await …(form.get("topic"), by=operator.actor)
        return after(request, "/briefings", "Created.")

    add_page(app, "Briefings", router, path="/briefings", templates=Path(__file__).parent / "templates")

Every URL in a template goes through `url("/jobs")` or `static("css/main.css")`; every form that is not GET carries
`<input type="hidden" name="token" value="{{ csrf }}">`. Scripts that POST send the same form encoding.
"""

from carafe.web.dashboard.access import OperatorOf, Viewer, ViewerOf
from carafe.web.dashboard.application import create_dashboard
from carafe.web.dashboard.dashboard import Dashboard, DashboardOf, get_dashboard
from carafe.web.dashboard.forms import FormOf
from carafe.web.dashboard.mounting import add_page, mount_dashboard
from carafe.web.dashboard.refusals import Refused
from carafe.web.dashboard.rendering import after, render, static, url

__all__ = [
    "Dashboard",
    "DashboardOf",
    "FormOf",
    "OperatorOf",
    "Refused",
    "Viewer",
    "ViewerOf",
    "add_page",
    "after",
    "create_dashboard",
    "get_dashboard",
    "mount_dashboard",
    "render",
    "static",
    "url",
]
