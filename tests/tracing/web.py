"""A web process, and a webhook that fails first."""

import http.server
import json
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.engine.worker_process import WorkerProcess
from tests.waiting import eventually


class WebProcess(WorkerProcess):
    """``carafe serve``."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(environment, folder, (sys.executable, "-m", "carafe", "serve"))

    @property
    def url(self) -> str:
        """Where it answers, once it does."""
        return str(self.events("serving")[0]["url"])

    async def serving(self) -> Self:
        """Wait until it answers. Returns itself."""
        await eventually(self._answers, 30)
        return self

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the web process ended with {self.process.returncode}:\n{self.log}")
        return bool(self.events("serving"))


class Webhook:
    """Writes briefings: 500 the first time, and a briefing the second."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        webhook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                webhook.headers.append({name.lower(): value for name, value in self.headers.items()})
                status = 500 if len(webhook.headers) == 1 else 200
                answer = json.dumps({"content": "Coffee is dear."}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://somebody:hunter2@127.0.0.1:{self._server.server_port}/write?token=hidden"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
