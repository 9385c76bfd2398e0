"""The text of a trace, the link to it, the settings, and the names of the conventions."""

import re
import subprocess
import sys

import pytest
from opentelemetry.semconv import schemas
from opentelemetry.semconv._incubating.attributes import (
    error_attributes,
    exception_attributes,
    host_attributes,
    http_attributes,
    messaging_attributes,
    server_attributes,
    service_attributes,
    url_attributes,
)

from carafe.jobs.identifiers import uuid7
from carafe.queue.hints import Hint, decode, encode
from carafe.settings.settings import SettingsError, load_settings
from carafe.tracing import Trace, conventions, parse, trace_url

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE = Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", True)


def test_a_text_is_what_it_was_read_from() -> None:
    assert parse(PARENT) == TRACE
    assert TRACE.text == PARENT
    assert TRACE.last_attempt is None
    after = TRACE._replace(state="one=1,two=2").after("00f067aa0ba902b7")
    assert after.text == f"{PARENT} carafe=00f067aa0ba902b7,one=1,two=2"
    assert parse(after.text) == after
    assert after.last_attempt == "00f067aa0ba902b7"
    assert after.after("1111111111111111").state == "carafe=1111111111111111,one=1,two=2"


def test_a_long_state_gives_up_what_came_first() -> None:
    state = ",".join(f"vendor{number}={'x' * 90}" for number in range(5))
    after = TRACE._replace(state=state).after("00f067aa0ba902b7")
    assert len(after.state) <= 512
    assert after.state.startswith("carafe=00f067aa0ba902b7,vendor0=")
    assert parse(after.text) == after


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "our ticket 17",
        PARENT[:-1],
        PARENT.upper(),
        f"ff{PARENT[2:]}",
        f"{PARENT}-more",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
    ],
)
def test_what_is_no_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    assert parse(f"01{PARENT[2:]}-more") == TRACE


def test_a_state_that_is_none_is_dropped() -> None:
    assert parse(f"{PARENT} one=\n2") == TRACE
    assert parse(f"{PARENT} {'x' * 600}") == TRACE


def test_the_link_to_a_trace() -> None:
    template = "https://tempo.example.org/trace/{trace_id}?orgId=1"
    assert trace_url(template, f"{PARENT} carafe=00f067aa0ba902b7") == (
        "https://tempo.example.org/trace/0af7651916cd43dd8448eb211c80319c?orgId=1"
    )
    assert trace_url(None, PARENT) is None
    assert trace_url(template, None) is None
    assert trace_url(template, f"{PARENT[:-2]}00") is None  # nobody has kept it
    assert trace_url(template, "our ticket 17") is None


def test_a_message_carries_the_headers_of_the_recommendation() -> None:
    import orjson

    hint = Hint(uuid7(), "some.kind", 1, f"{PARENT} one=1")
    message = orjson.loads(encode(hint))
    assert (message["headers"]["traceparent"], message["headers"]["tracestate"]) == (PARENT, "one=1")
    assert decode(message) == hint
    plain = Hint(uuid7(), "some.kind", 1, PARENT)
    assert decode(orjson.loads(encode(plain))) == plain
    assert "tracestate" not in orjson.loads(encode(plain))["headers"]


def test_the_names_are_those_of_the_installed_conventions() -> None:
    modules = (
        error_attributes,
        exception_attributes,
        host_attributes,
        http_attributes,
        messaging_attributes,
        server_attributes,
        service_attributes,
        url_attributes,
    )
    known = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    used = {
        value
        for name, value in vars(conventions).items()
        if name.isupper() and isinstance(value, str) and "." in value and not value.startswith(("carafe.", "https:"))
    }
    assert len(used) > 15
    assert used <= known
    types = messaging_attributes.MessagingOperationTypeValues
    assert {conventions.SEND, conventions.PROCESS} <= {kind.value for kind in types}
    newest = max((version.value for version in schemas.Schemas), key=lambda url: [int(n) for n in re.findall(r"\d+", url)])
    assert newest == conventions.SCHEMA_URL, "read what has changed, then copy the names again"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tracing_sample_ratio", "1.5", "a number from 0 to 1"),
        ("tracing_sample_ratio", "nan", "a number from 0 to 1"),
        ("otel_exporter_otlp_endpoint", "collector:4317", "must be a URL"),
        ("otel_exporter_otlp_protocol", "udp", "grpc or http/protobuf"),
        ("otel_exporter_otlp_headers", "hunter2", "name=value"),
        ("trace_url_template", "https://tempo.example.org/", "{trace_id}"),
        ("trace_url_template", "javascript:{trace_id}", "must be a URL"),
        ("trace_url_template", "https://tempo.example.org/{trace_id}/{span_id}", "no other name"),
    ],
)
def test_a_setting_that_does_not_fit_is_said(name: str, value: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(**{name: value})
    (fault,) = refused.value.faults
    assert fault.startswith(f"{name.upper()}: ")
    assert says in fault
    assert "hunter2" not in fault


def test_without_the_sdk_start_up_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk'] = None\n"
        "from carafe.settings.settings import Settings, SettingsError\n"
        "from carafe import tracing\n"
        "tracing.require(Settings())\n"
        "try: tracing.require(Settings(tracing_sample_ratio=0.5))\n"
        "except SettingsError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert "TRACING_SAMPLE_RATIO" in done.stdout
    assert "carafe-jobs[tracing]" in done.stdout
