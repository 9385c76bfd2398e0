"""docker-compose.yml agrees with the code: its variables are settings, its times fit together, and no port is open to the
network."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from briefings.settings import BriefingSettings
from carafe.settings.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
OURS = ("migrate", "web", "worker")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert isinstance(services, dict)
    return services


def files(service: dict[str, Any]) -> list[str]:
    return [file["path"] for file in service["env_file"]]


@pytest.mark.parametrize("name", OURS)
def test_every_name_that_it_sets_is_a_setting_and_every_value_fits(services: dict[str, Any], name: str) -> None:
    service = services[name]
    values: dict[str, Any] = {}
    for file in files(service):
        values |= dotenv_values(ROOT / file)
    values |= service["environment"]
    assert BriefingSettings(**{key.lower(): value for key, value in values.items()}).environment == "development"


@pytest.mark.parametrize("name", OURS)
def test_env_local_is_read_and_may_be_missing(services: dict[str, Any], name: str) -> None:
    last = services[name]["env_file"][-1]
    assert last == {"path": "env.local", "required": False}


def test_the_worker_asks_the_sample_webhook_that_web_serves_while_it_names_none(services: dict[str, Any]) -> None:
    assert dotenv_values(ROOT / "deploy/compose/worker.env") == {
        "BRIEFING_WEBHOOK_URL": f"http://web:{services['web']['environment']['PORT']}/sample-webhook"
    }
    assert files(services["web"]) == ["env.local"]
    assert "BRIEFING_WEBHOOK_URL" not in services["web"]["environment"]


def test_the_workers_and_the_migrations_are_given_none_of_webs_secrets(services: dict[str, Any]) -> None:
    for name in ("migrate", "worker"):
        environment = services[name]["environment"]
        assert {environment[secret] for secret in ("API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS")} == {""}
    assert not {"API_TOKENS", "DASHBOARD_USERS", "DASHBOARD_SECRET_KEYS"} & set(services["web"]["environment"])


def test_the_servers_ask_for_a_password_which_stands_in_no_argument(services: dict[str, Any]) -> None:
    """Every account of a machine reaches the addresses of its containers."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    (mounted,) = services["redis"]["configs"]
    assert compose["configs"][mounted["source"]] == {"content": "requirepass ${REDIS_PASSWORD:-carafe}\n"}
    assert services["redis"]["command"][1] == mounted["target"]
    assert services["redis"]["environment"] == {"REDISCLI_AUTH": "${REDIS_PASSWORD:-carafe}"}
    assert services["postgres"]["environment"]["POSTGRES_PASSWORD"] == "${POSTGRES_PASSWORD:-carafe}"
    for name in OURS:
        assert services[name]["environment"]["REDIS_URL"] == "redis://:${REDIS_PASSWORD:-carafe}@redis:6379/0"
        url = "postgresql://carafe:${POSTGRES_PASSWORD:-carafe}@postgres:5432/carafe"
        assert services[name]["environment"]["DATABASE_URL"] == url
    assert "PASSWORD" not in " ".join(part for service in services.values() for part in service.get("command", []))


def test_ports_are_published_to_this_machine_alone(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {"127.0.0.1:8080:8080", "127.0.0.1:8081:8081"} <= set(ports)
    assert all(port.startswith("127.0.0.1:") for port in ports)


@pytest.mark.parametrize("name", ["web", "worker"])
def test_a_stop_waits_for_the_drain(services: dict[str, Any], name: str) -> None:
    seconds = re.fullmatch(r"(\d+)s", services[name]["stop_grace_period"])
    assert seconds
    assert int(seconds[1]) > Settings().drain_timeout


@pytest.mark.parametrize("name", OURS)
def test_ours_run_as_restricted_as_in_the_cluster(services: dict[str, Any], name: str) -> None:
    service = services[name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_what_was_queued_is_kept(services: dict[str, Any]) -> None:
    assert services["redis"]["command"][2:] == ["--appendonly", "yes", "--maxmemory-policy", "noeviction"]
    assert services["redis"]["volumes"] == ["redis:/data"]
    assert services["postgres"]["volumes"] == ["postgres:/var/lib/postgresql"]


def test_web_and_worker_start_after_the_schema_is_there(services: dict[str, Any]) -> None:
    for name in ("web", "worker"):
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["depends_on"]["postgres"] == {"condition": "service_healthy"}
    # Whose sample webhook the worker asks: it goes before web, too.
    assert services["worker"]["depends_on"]["web"] == {"condition": "service_healthy"}
