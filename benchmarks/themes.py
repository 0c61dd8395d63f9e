"""The colors and markers of the plots, on light and on dark pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

AGENTSTORE = "agentstore"


@dataclass(frozen=True)
class Theme:
    """The colors of the plots of a page. tests/unit/test_pictures.py checks their contrast."""

    name: str
    background: str
    """That of the page; plots have none."""
    text: str
    grid: str
    contenders: Mapping[str, str]
    """The color of each contender, in every panel of every plot."""
    calls: Sequence[str]
    """The colors of lines that are not those of contenders."""


LIGHT = Theme(
    name="light",
    background="#ffffff",
    text="#24292f",
    grid="#d8dee4",
    contenders={
        AGENTSTORE: "#c0392b",
        "floor (asyncpg)": "#24292f",
        "SQLAlchemy ORM": "#0066a3",
        "google-adk": "#bb7701",
        "openai-agents": "#00805f",
        "agno": "#b5508f",
        "agentscope": "#2288c0",
        "agentscope-runtime (Redis)": "#6e390a",
        "agentscope-runtime (in memory)": "#938666",
        "langgraph checkpoint": "#6a3d9a",
        "langgraph store": "#8f6fcb",
    },
    calls=("#0066a3", "#b06a00", "#00805f", "#b5508f", "#6a3d9a", "#7a5a1e", "#c0392b", "#57606a", "#2288c0"),
)
DARK = Theme(
    name="dark",
    background="#1e2129",
    text="#e6edf3",
    grid="#3d444d",
    contenders={
        AGENTSTORE: "#ff755c",
        "floor (asyncpg)": "#e6edf3",
        "SQLAlchemy ORM": "#4aa8e8",
        "google-adk": "#f0b13a",
        "openai-agents": "#12c7a2",
        "agno": "#e39ac7",
        "agentscope": "#8fd3f7",
        "agentscope-runtime (Redis)": "#aaa194",
        "agentscope-runtime (in memory)": "#d8cba3",
        "langgraph checkpoint": "#a887e0",
        "langgraph store": "#cdbdf2",
    },
    calls=("#4aa8e8", "#f0b13a", "#2fc79a", "#e39ac7", "#a887e0", "#b8925a", "#ff7b6b", "#b1bac4", "#8fd3f7"),
)
# Of each contender too, since eleven colors cannot be told apart by everybody.
MARKERS = dict(zip(LIGHT.contenders, "oDsv^<>PX*p", strict=True))
