"""The ports of `carafe dev`: those that the settings name, or free ones in place of 0."""

import os
import socket

from carafe.settings.settings import Settings, SettingsError
from carafe.telemetry.loggers import get_logger

log = get_logger("carafe.dev.ports")


def with_free_ports(settings: Settings, *, keep_all: bool = False) -> Settings:
    """Returns the settings with a web port that is free: if PORT is 0, a free port takes its place. With `keep_all` the same
    is done for DASHBOARD_PORT and PROBE_PORT, so that they stay the same when the processes are started again. A free port
    also takes the place of PROBE_PORT's default if that is taken, for instance by another `carafe dev`.

    Raises SettingsError when PORT, DASHBOARD_PORT or PROBE_PORT is taken.
    """
    faults: list[str] = []
    free: dict[str, int] = {}
    replaced: dict[str, int] = {}
    asked = [("PORT", settings.host), ("PROBE_PORT", settings.probe_host)]
    if settings.dashboard:
        asked.insert(1, ("DASHBOARD_PORT", settings.host))
    for setting, host in asked:
        number: int = getattr(settings, setting.lower())
        try:
            free[setting] = _free(host, number)
        except OSError as error:
            if setting == "PROBE_PORT" and "probe_port" not in settings.model_fields_set:
                free[setting] = replaced[setting] = _free(host, 0)
                log.info("the default of PROBE_PORT is taken, a free port is used", taken=number, port=free[setting])
                continue
            faults.append(_taken(setting, host, number, error))
    if faults:
        raise SettingsError(faults)
    chosen = free if keep_all else {"PORT": free["PORT"], **replaced}
    # For an application that reads its settings itself, and for a process that is started from this one.
    os.environ.update({setting: str(port) for setting, port in chosen.items()})
    return settings.model_copy(update={setting.lower(): port for setting, port in chosen.items()})


def _free(host: str, port: int) -> int:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        number: int = probe.getsockname()[1]
        return number


def _taken(setting: str, host: str, port: int, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{setting}: cannot listen on {host}:{port} ({reason}); set {setting} to another port, or to 0 for a free one"
