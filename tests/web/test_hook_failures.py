"""A hook that fails undoes the change of its job; only the log has the text of its error."""

from uuid import uuid4

import httpx


async def test_a_failed_hook_undoes_the_change(http: httpx.AsyncClient) -> None:
    job = (await http.post("/api/v1/jobs", json={"kind": "web.guarded", "args": {"id": str(uuid4())}})).json()["id"]
    answer = await http.post(f"/api/v1/jobs/{job}/cancel")
    assert (answer.status_code, answer.json()["type"]) == (500, "/problems/hook-failed")
    assert "own words" not in answer.text
    assert (await http.get(f"/api/v1/jobs/{job}")).json()["state"] == "queued"
