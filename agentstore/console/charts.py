"""Charts as SVG, drawn by the server: without script, and without styles that the policy would refuse."""

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

# Units of the drawing, which is stretched to the width of the page. Few bars do not fill it.
_WIDTH, _HEIGHT, _FEW = 720, 120, 24


def bar_chart(values: Sequence[tuple[str, int]], label: str) -> Markup:
    """Return a bar for each value, with its name and number as its tooltip; below are the ends and the maximum.

    `label` describes the chart to a screen reader.
    """
    if not values:
        return Markup("")
    highest = max(1, *(value for _, value in values))
    step = _WIDTH / max(_FEW, len(values))
    gap = min(2.0, step / 4)
    bars = []
    for index, (name, value) in enumerate(values):
        height = max(1.0, value / highest * _HEIGHT) if value else 0.0
        bars.append(
            f'<rect class="fill" x="{index * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step - gap:.1f}" '
            f'height="{height:.1f}"><title>{escape(name)}: {value:,}</title></rect>'
        )
    width = f"{step * len(values):.1f}" if len(values) >= _FEW else str(_WIDTH)
    names = list(dict.fromkeys([values[0][0], values[-1][0]]))
    if len(values) < _FEW:
        names = [" – ".join(names)]
    names.insert(1, f"max {highest:,}")
    return Markup(  # noqa: S704 - numbers, and escaped names
        f'<figure class="chart"><svg viewBox="0 0 {width} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(label)}">{"".join(bars)}</svg>'
        f"<figcaption>{''.join(f'<span>{escape(each)}</span>' for each in names)}</figcaption></figure>"
    )


def meter(value: float, highest: float) -> Markup:
    """Return a thin bar whose length is a share of the highest value. Decoration: the number stands beside it."""
    share = 0.0 if highest <= 0 else min(1.0, max(0.0, value / highest))
    return Markup(  # noqa: S704 - a number
        '<svg class="meter" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="meter-rest" width="100" height="6" rx="3"/>'
        f'<rect class="fill" width="{share * 100:.1f}" height="6" rx="3"/></svg>'
    )
