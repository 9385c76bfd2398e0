"""What GitHub runs (.github/): it fits its schema, calls commands that exist, names the Pythons that pyproject.toml names,
and may do no more than it must. Read from the files alone; nothing asks GitHub."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))

SCHEMAS = {
    "vendor.github-workflows": WORKFLOWS,
    "vendor.dependabot": [GITHUB / "dependabot.yml"],
    "vendor.github-issue-config": [GITHUB / "ISSUE_TEMPLATE" / "config.yml"],
    "vendor.github-issue-forms": [GITHUB / "ISSUE_TEMPLATE" / "bug.yml", GITHUB / "ISSUE_TEMPLATE" / "idea.yml"],
}
"""The schemas that come with check-jsonschema, and what must fit each."""

MAY_WRITE = {("release.yml", "attest"): {"id-token", "attestations"}, ("release.yml", "publish"): {"id-token"}}
"""The only jobs that may do more than read, and what."""

STEPS_BESIDE_MAKE = {'test "$FAILED" = false'}
"""Commands that are not targets of the Makefile."""


def read(path: Path) -> dict[str, Any]:
    """A workflow; YAML 1.1 reads its key `on` as true."""
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text())
    return {"on" if key is True else key: value for key, value in workflow.items()}


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    """(file, job, what it says) for every job."""
    return [(path.name, name, job) for path in WORKFLOWS for name, job in read(path)["jobs"].items()]


def steps() -> list[dict[str, Any]]:
    return [step for _, _, job in jobs() for step in job["steps"]]


def project() -> dict[str, Any]:
    with open(ROOT / "pyproject.toml", "rb") as file:
        said: dict[str, Any] = tomllib.load(file)["project"]
        return said


def supported() -> list[str]:
    """The Python versions of the classifiers, lowest first."""
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text) for text in project()["classifiers"]]
    return [match[1] for match in found if match]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_every_file_fits_its_schema(schema: str) -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", schema, *map(str, SCHEMAS[schema])]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_file_is_checked_against_a_schema() -> None:
    assert set(GITHUB.rglob("*.yml")) == {path for paths in SCHEMAS.values() for path in paths}


def test_the_matrix_is_what_the_classifiers_and_requires_python_say() -> None:
    (matrix,) = [job["strategy"]["matrix"]["python"] for _, _, job in jobs() if "strategy" in job]

    assert matrix == supported()
    assert project()["requires-python"] == f">={matrix[0]}"


def test_other_jobs_use_a_python_of_the_matrix() -> None:
    named = [step["with"]["python-version"] for step in steps() if "python-version" in step.get("with", {})]

    assert {version for version in named if "matrix" not in version} <= set(supported())
    assert supported()[0] in named, "lint runs on the lowest version"


def test_every_command_is_a_target_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = [step["run"] for step in steps() if "run" in step and step["run"] not in STEPS_BESIDE_MAKE]

    assert {"make lint", "make test", "make docs"} <= set(commands)
    for command in commands:
        target = re.match(r"make ([a-z-]+)\b", command)
        assert target, command
        assert target[1] in targets, command


def test_no_text_of_a_pull_request_reaches_a_shell() -> None:
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_every_action_is_pinned_by_its_commit_and_names_its_version() -> None:
    for path in WORKFLOWS:
        uses = re.findall(r"uses: (.+)", path.read_text())
        for line in uses:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), f"{path.name}: {line}"


def test_one_action_has_one_version() -> None:
    used = {re.sub(r"@.*", "", step["uses"]): set[str]() for step in steps() if "uses" in step}
    for step in steps():
        if "uses" in step:
            used[step["uses"].partition("@")[0]].add(step["uses"])
    assert {action: versions for action, versions in used.items() if len(versions) > 1} == {}


def test_permissions_are_the_least() -> None:
    for path in WORKFLOWS:
        assert read(path)["permissions"] in ({}, {"contents": "read"}), path.name
    for file, name, job in jobs():
        may_write = {what for what, right in job.get("permissions", {}).items() if right != "read"}
        assert may_write == MAY_WRITE.get((file, name), set()), f"{file}: {name}"


def test_no_secret_is_used_and_no_credential_stays_on_disk() -> None:
    for path in WORKFLOWS:
        assert "secrets." not in path.read_text()
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


def test_nothing_runs_for_a_strangers_pull_request_with_our_rights() -> None:
    for path in WORKFLOWS:
        assert not set(read(path)["on"]) & {"pull_request_target", "workflow_run", "issue_comment"}, path.name


def test_every_job_has_a_limit_of_time() -> None:
    assert [(file, name) for file, name, job in jobs() if "timeout-minutes" not in job] == []


def test_one_check_stands_for_all_jobs_of_a_pull_request() -> None:
    ci = read(GITHUB / "workflows" / "ci.yml")["jobs"]

    assert set(ci["passed"]["needs"]) == set(ci) - {"passed"}
    assert ci["passed"]["if"] == "always()"


def test_a_release_begins_at_a_tag_alone_and_is_published_from_its_environment() -> None:
    release = read(GITHUB / "workflows" / "release.yml")

    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert release["jobs"]["publish"]["environment"]["name"] == "pypi"
    assert set(release["jobs"]["publish"]["needs"]) == {"build", "attest"}
    # What publishes runs none of our code.
    assert not [step for name in ("attest", "publish") for step in release["jobs"][name]["steps"] if "run" in step]


def test_dependabot_looks_at_all_that_is_pinned() -> None:
    watched = {update["package-ecosystem"] for update in yaml.safe_load((GITHUB / "dependabot.yml").read_text())["updates"]}

    assert watched == {"pip", "github-actions", "docker", "docker-compose"}
