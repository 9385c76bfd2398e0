"""Web answers the paths that Kubernetes probes, even while Postgres and Redis are away."""

import httpx

from app.main import create_app
from briefings.settings import BriefingSettings
from tests.deploy.manifests import KUSTOMIZE, the
from tests.web.test_problems import closed_port


async def test_web_probes_ask_no_server() -> None:
    (container,) = the("Deployment", "carafe-web", KUSTOMIZE / "base")["spec"]["template"]["spec"]["containers"]
    paths = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    app = create_app(
        BriefingSettings.model_validate(
            {
                "environment": "production",
                "database_url": f"postgresql://nobody@127.0.0.1:{closed_port()}/none",
                "redis_url": f"redis://127.0.0.1:{closed_port()}/0",
                "api_tokens": "ops:operate:" + "0" * 64,
            }
        )
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
        for path in paths:
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/health")).status_code == 503
