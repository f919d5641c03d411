"""Colours of the page: every text can be read, in light and in dark."""

from __future__ import annotations

import re
from importlib import resources

import pytest

CSS = resources.files("panokit_demo").joinpath("static", "app.css").read_text("utf-8")

PAIRS = [
    *(("ink", ground) for ground in ("paper", "card", "raised", "tint", "stage")),
    *(("soft", ground) for ground in ("paper", "card", "tint", "stage")),
    *(("accent", ground) for ground in ("paper", "card", "tint")),
    ("on-accent", "accent"),
    *((name, f"{name}-tint") for name in ("good", "bad", "warn")),
    ("good", "card"),
    ("bad", "card"),
]


def theme(selector: str) -> dict[str, tuple[int, ...]]:
    """Colours by name of the block that begins with ``selector``."""
    block = CSS[CSS.index(selector) :].partition("}")[0]
    found = {}
    for name, digits in re.findall(r"--([a-z-]+): #([0-9a-f]{3,6});", block):
        digits = digits if len(digits) == 6 else "".join(2 * d for d in digits)
        found[name] = tuple(bytes.fromhex(digits))
    return found


def luminance(color: tuple[int, ...]) -> float:
    """Relative luminance (WCAG 2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: tuple[int, ...], b: tuple[int, ...]) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_and_white_is_21() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)


@pytest.mark.parametrize("selector", [":root {", ':root[data-theme="dark"]'], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_text_can_be_read(selector: str, text: str, ground: str) -> None:
    colors = theme(selector)
    assert contrast(colors[text], colors[ground]) >= 4.5


def test_dark_by_choice_and_by_the_system_are_the_same() -> None:
    assert theme(':root[data-theme="dark"]') == theme(':root:not([data-theme="light"])')
