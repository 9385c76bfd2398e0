"""The dashboard: web pages that show jobs, queues and workers live, and let operators act on them.

The pages are rendered by the server. They are served on a port of their own or under a path of an application.

Guarantees: nobody is let in unless the settings allow it, or the dashboard runs in development and is used on this machine.
Every request that changes something must carry a matching Origin header and a token of its session. Pages read through a
small, read-only connection pool of the dashboard's own.
Must never: show a secret argument, render a value unescaped, or delay the process's exit.

Pages, both those of this package and those that an application adds, are written like this:

    router = APIRouter()

    @router.get("/orders")
    async def orders(request: Request, viewer: ViewerOf, dashboard: DashboardOf) -> HTMLResponse:
        return render(request, "orders.html", orders=await …)

    @router.post("/orders")
    async def create(request: Request, operator: OperatorOf, form: FormOf) -> Response:
        await …(form.get("customer"), by=operator.actor)
        return after(request, "/orders", "Created.")

    add_page(app, "Orders", router, path="/orders", templates=Path(__file__).parent / "templates")

Templates make every URL with `url("/jobs")` or `static("css/main.css")`. Every form that is not GET contains
`<input type="hidden" name="token" value="{{ csrf }}">`. Scripts that POST send the same fields, form-encoded.
"""

from carafe.dashboard.added_pages import add_page
from carafe.dashboard.application import create_dashboard
from carafe.dashboard.dashboard import Dashboard
from carafe.dashboard.dependencies import DashboardOf, OperatorOf, ViewerOf, get_dashboard
from carafe.dashboard.mounting import mount_dashboard
from carafe.dashboard.security.access import Viewer
from carafe.dashboard.security.forms import FormOf
from carafe.dashboard.security.refusals import Refused
from carafe.dashboard.view.rendering import after, render, static, url

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
