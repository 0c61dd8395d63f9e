"""The pictures of the documentation: up to date, and legible for everybody, on light and dark pages."""

import json
import math
from collections.abc import Mapping
from itertools import combinations
from xml.etree import ElementTree

import pytest

from benchmarks import themes
from tests.support import diagram, terminal
from tests.support.documents import ROOT

# How somebody who lacks a kind of cone sees linear RGB: Machado, Oliveira and Fernandes 2009.
_SEEN = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
# Of WCAG 2.2: for text, and for what is not text.
_TEXT, _GRAPHICS = 4.5, 3.0
# Of two colors in OKLab, in which black and white differ by 1.
_DISTINCT = 0.08


def _linear(color: str) -> list[float]:
    values = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in values]


def _times(matrix: tuple[tuple[float, ...], ...], values: list[float]) -> list[float]:
    return [sum(factor * value for factor, value in zip(row, values, strict=True)) for row in matrix]


def _contrast(a: str, b: str) -> float:
    lower, higher = sorted(_times(((0.2126, 0.7152, 0.0722),), _linear(each))[0] for each in (a, b))
    return (higher + 0.05) / (lower + 0.05)


def _difference(a: str, b: str, seen: str) -> float:
    """Return the distance of two colors in OKLab, for somebody with these cones."""
    places = []
    for color in (a, b):
        rgb = [min(1.0, max(0.0, each)) for each in _times(_SEEN[seen], _linear(color))]
        cones = _times(
            ((0.4122215, 0.5363325, 0.0514460), (0.2119035, 0.6806995, 0.1073970), (0.0883025, 0.2817188, 0.6299787)),
            rgb,
        )
        places.append(
            _times(
                (
                    (0.2104543, 0.7936178, -0.0040720),
                    (1.9779985, -2.4285922, 0.4505937),
                    (0.0259040, 0.7827718, -0.8086758),
                ),
                [each ** (1 / 3) for each in cones],
            )
        )
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(*places, strict=True)))


def test_contrast_and_difference_are_those_of_known_colors() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert _difference("#000000", "#ffffff", "all cones") == pytest.approx(1, abs=1e-3)
    # Red and green of the same lightness differ for those who have all cones.
    assert _difference("#b04040", "#40803f", "all cones") > 2 * _difference("#b04040", "#40803f", "deuteranopia")


@pytest.mark.parametrize("theme", [themes.LIGHT, themes.DARK], ids=lambda each: each.name)
def test_plots_are_legible(theme: themes.Theme) -> None:
    assert _contrast(theme.text, theme.background) >= _TEXT
    for name, color in theme.contenders.items():
        assert _contrast(color, theme.background) >= _GRAPHICS, name
    for color in theme.calls:
        assert _contrast(color, theme.background) >= _GRAPHICS, color


@pytest.mark.parametrize("theme", [themes.LIGHT, themes.DARK], ids=lambda each: each.name)
@pytest.mark.parametrize("seen", _SEEN)
def test_the_line_of_agentstore_differs_from_every_other(theme: themes.Theme, seen: str) -> None:
    own = theme.contenders[themes.AGENTSTORE]
    for name, color in theme.contenders.items():
        if name != themes.AGENTSTORE:
            assert _difference(own, color, seen) >= _DISTINCT, name


def test_no_two_contenders_share_a_color_or_a_marker() -> None:
    assert len(set(themes.MARKERS.values())) == len(themes.MARKERS)
    assert themes.LIGHT.contenders.keys() == themes.DARK.contenders.keys() == themes.MARKERS.keys()
    for theme in (themes.LIGHT, themes.DARK):
        for (a, first), (b, second) in combinations(theme.contenders.items(), 2):
            assert _difference(first, second, "all cones") >= _DISTINCT / 2, (a, b)


@pytest.mark.parametrize("plot", ["calls", "writers", "latencies"])
@pytest.mark.parametrize("theme", [themes.LIGHT, themes.DARK], ids=lambda each: each.name)
def test_plots_have_the_contenders_of_the_report_in_their_colors(plot: str, theme: themes.Theme) -> None:
    results = json.loads((ROOT / "docs/performance/bench.json").read_text(encoding="utf-8"))["results"]
    kinds = {
        "calls": lambda each: each["per_second"] is None,
        "writers": lambda each: each["per_second"] is not None,
        "latencies": lambda each: each["case"] in {"append 1", "64 writers, 64 sessions"},
    }
    picture = (ROOT / f"docs/performance/{plot}-{theme.name}.svg").read_text(encoding="utf-8")
    assert f">{themes.AGENTSTORE}<" in picture
    for name in {each["contender"] for each in results if kinds[plot](each)}:
        assert f">{name}<" in picture
        assert theme.contenders[name] in picture


@pytest.mark.parametrize("theme", [diagram.LIGHT, diagram.DARK], ids=lambda each: each.name)
def test_diagrams_are_those_of_the_code_and_legible(theme: diagram.Theme) -> None:
    for name, draw in diagram.PICTURES.items():
        path = diagram.FOLDER / f"{name}-{theme.name}.svg"
        assert path.read_text(encoding="utf-8") == draw(theme), "run python -m tests.support.diagram"
    for fill in (theme.box, theme.part):
        assert _contrast(theme.text, fill) >= _TEXT
        assert _contrast(theme.note, fill) >= _TEXT
        assert _contrast(theme.line, fill) >= _GRAPHICS
    assert _contrast(theme.line, theme.background) >= _GRAPHICS


def test_diagrams_have_what_the_code_has() -> None:
    picture = diagram.draw_architecture(diagram.LIGHT)
    for each in ("OpenAI Agents SDK", "store.sessions", "store.checkpoints", "bubblewrap"):
        assert f"{each}<" in picture
    assert "unsafe" not in picture


@pytest.mark.parametrize("theme", terminal.THEMES)
def test_the_terminal_is_legible(theme: str) -> None:
    colors: Mapping[str, str] = terminal.THEMES[theme]
    for name, color in colors.items():
        if name not in {"window", "border"}:
            assert _contrast(color, colors["window"]) >= _TEXT, name


@pytest.mark.parametrize("theme", terminal.THEMES)
def test_the_terminal_shows_the_end_to_who_prefers_no_motion(theme: str) -> None:
    picture = (terminal.FOLDER / f"demo-{theme}.svg").read_text(encoding="utf-8")
    assert "@media (prefers-reduced-motion:reduce){.screen,.line{animation:none}}" in picture
    rows = terminal.text_of(picture)
    assert rows[0] == "$ make demo"
    assert "Every acknowledged message is stored, in order." in rows[-terminal.ROWS :]


def test_pictures_load_nothing() -> None:
    for path in ROOT.glob("docs/**/*.svg"):
        for element in ElementTree.parse(path).iter():
            for name, value in element.attrib.items():
                assert not (name.endswith(("href", "src")) and not value.startswith("#")), path
            assert "url(" not in (element.text or "").replace("url(#", ""), path
