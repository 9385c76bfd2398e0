"""The colours of the style sheet reach AA contrast in both themes: 4.5 for text, 3 for drawings and borders."""

import re

import pytest

from carafe.dashboard.view.rendering import STATIC

SHEET = (STATIC / "dashboard.css").read_text()
TOKENS = {
    name: (light, dark)
    for name, light, dark in re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", SHEET)
}
INKS = ("accent", "good", "warning", "critical", "violet", "orange", "grey")
GROUNDS = ("ground", "surface", "sunken")

TEXT = (
    [(ink, ground) for ink in ("text", "muted") for ground in GROUNDS]
    + [("text", f"{ink}-tint") for ink in INKS]
    + [(ink, f"{ink}-tint") for ink in INKS]
    + [(ink, "surface") for ink in INKS]
    + [("accent", ground) for ground in GROUNDS]
    + [
        ("accent", "accent-tint"),
        ("on-accent", "accent"),
        ("muted", "accent-tint"),
        ("critical", "ground"),
        ("good", "ground"),
    ]
)
DRAWN = [("control", "surface"), ("control", "ground")]


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_measure_itself() -> None:
    assert contrast("#000000", "#ffffff") == 21
    assert round(contrast("#767676", "#ffffff"), 2) == 4.54


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), TEXT)
def test_text_is_readable(ink: str, ground: str, theme: int) -> None:
    assert contrast(TOKENS[ink][theme], TOKENS[ground][theme]) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground"), DRAWN)
def test_frames_are_seen(ink: str, ground: str, theme: int) -> None:
    assert contrast(TOKENS[ink][theme], TOKENS[ground][theme]) >= 3


def test_every_colour_that_is_used_is_one_of_both_themes() -> None:
    used = set(re.findall(r"var\(--([a-z-]+)", SHEET)) - {"ink", "tint", "series", "sans", "mono", "radius", "gap", "shadow"}
    assert used <= TOKENS.keys()
    rest = re.sub(r":root \{.*?\n\}", "", SHEET, count=1, flags=re.S)
    assert not re.findall(r"#[0-9a-f]{3,8}\b", rest), "colours stand in the list on top alone"
