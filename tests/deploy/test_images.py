"""Every image that is named anywhere has a version or a digest, and none is `latest`."""

import re
from collections.abc import Iterator

import pytest
import yaml

from tests.deploy.manifests import DEPLOY, OVERLAYS, ROOT, containers, manifests, rendered

PLACEHOLDER = "carafe"
"""What overlays and docs/deploy.md's `sed` put an image of ours in the place of."""

VERSIONED = re.compile(r"[\w./:-]*?[\w-]+(:(?!latest$)[\w.-]*[\w]+|@sha256:([0-9a-f]{64}|…))")


def named() -> Iterator[tuple[str, str]]:
    """(where, image) of every file that names one."""
    for item in manifests(DEPLOY):
        if item.pod is not None:
            for container in containers(item.pod):
                if container["image"] != PLACEHOLDER:
                    yield str(item), container["image"]
    for service, given in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].items():
        yield f"docker-compose.yml, {service}", given["image"]
    for path in (ROOT / "Dockerfile", ROOT / "tests/cluster/Dockerfile"):
        text = path.read_text()
        stages = {*re.findall(r"^FROM .* AS (\S+)", text, re.MULTILINE)}
        arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.MULTILINE))
        for image in re.findall(r"^FROM (?:--\S+ )*(\S+)", text, re.MULTILINE):
            given = arguments.get(image.strip("${}"), image)
            if given not in stages and "$" not in given:
                yield path.name, given
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), ROOT / "Tiltfile"):
        text = page.read_text()
        for command in re.findall(r"docker (?:run|build|push|pull) [^\n#&|]*", text):
            images = re.findall(r"(?:--tag|-t|push|pull) (\S+)", command) or re.findall(r"run (?:-\S+ )*(\S+)", command)
            for image in images:
                yield page.name, image
        for image in re.findall(r"--build-arg \w*IMAGE=(\S+)|(?<![\w.])image: (?!carafe\\)([\w./]+:[\w.-]+)", text):
            yield page.name, "".join(image)


@pytest.mark.parametrize(("where", "image"), sorted(set(named())), ids=str)
def test_an_image_has_a_version_or_a_digest(where: str, image: str) -> None:
    assert VERSIONED.fullmatch(image), f"{where}: {image}"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_so_has_what_a_cluster_is_given(overlay: str) -> None:
    for item in rendered(DEPLOY / "kustomize" / "overlays" / overlay):
        for container in containers(item.pod) if item.pod else ():
            assert VERSIONED.fullmatch(container["image"]), f"{item.name}: {container['image']}"


@pytest.mark.parametrize("image", ["carafe", "carafe:latest", "grafana/grafana", "r.example:5000/carafe", "postgres:"])
def test_what_has_none_would_be_seen(image: str) -> None:
    assert not VERSIONED.fullmatch(image)


def test_nothing_says_latest() -> None:
    """Also where no image is looked for."""
    places = [*DEPLOY.rglob("*"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*"), *(ROOT / ".ci").rglob("*")]
    assert not [
        str(path.relative_to(ROOT))
        for path in places
        if path.is_file() and path.suffix != ".png" and re.search(r":latest\b", path.read_text(errors="replace"))
    ]
