"""The command `dev`: everything for development, or a part of it."""

import os

from carafe.cli.exits import Exit, Failure
from carafe.settings.settings import load_api_settings, load_settings


def run(*, reload: bool, servers: bool, port: int | None, dashboard_port: int | None, stopped_by: int | None) -> int:
    """Runs until Ctrl-C or SIGTERM. Returns the exit code. `stopped_by`: the descriptor by which the process that has
    started this one asks it to stop. Raises `Failure` for options that do not go together."""
    given = {"PORT": port, "DASHBOARD_PORT": dashboard_port}
    if servers and (reload or any(number is not None for number in given.values())):
        raise Failure(
            "--servers runs no web process and no worker: leave --reload, --port and --dashboard-port out", Exit.USAGE
        )
    # As settings, whose check says what a port may be, and for processes that are started from this one.
    os.environ.update({setting: str(number) for setting, number in given.items() if number is not None})
    if servers:
        from carafe.dev.servers import run_servers

        return run_servers(load_settings())
    if reload:
        from carafe.dev.reload import run_reloading

        return run_reloading(load_api_settings())
    from carafe.dev.run import run_dev

    return run_dev(load_api_settings(), pipe=stopped_by)
