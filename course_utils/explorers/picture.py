"""An explorer's first setting as a PNG, for pages where no script runs."""

import io
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from ..plots import COLORS, MARKERS
from .browser_data import Packed
from .number_format import format_number

Described: TypeAlias = dict[str, Any]  # a panel or a mark, as the browser gets it
Read: TypeAlias = Callable[[Described], np.ndarray]  # the points of an array at the setting

_DASHES = {"solid": "-", "dashed": (0, (4, 2)), "dotted": (0, (1, 1.6))}
_HALO = {"boxstyle": "round,pad=0.1", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
_COLUMNS = 3
# Inches. Placed by hand: a layout engine measures every text three times, half of a picture's cost.
_PANEL, _ALONE, _HEIGHT = 4.1, 5.6, 3.7  # width in a row, width of one or of four, height
_TITLE, _ABOVE, _LEFT, _RIGHT, _TICKS, _ENTRY, _GAP = 0.4, 0.55, 0.6, 0.2, 0.45, 0.2, 0.12


def figure(packed: Packed, index: list[int] | None = None) -> Figure:
    """Draw every panel at one setting.

    Args:
        packed: A checked explorer.
        index: Position of each slider; where they start when None.

    Returns:
        A figure that belongs to no window and no global state.
    """
    index = packed.start if index is None else index
    panels = packed.spec["panels"]
    four = len(panels) == 4  # two rows of two, as in the browser
    columns = 2 if four else min(_COLUMNS, len(panels))
    cell = _PANEL if columns > 1 and not four else _ALONE
    width = cell * columns
    sliders, readouts = packed.shown(index)

    def read(ref: Described) -> np.ndarray:
        return packed.array(ref, index)

    below = _wrapped(sliders, width) + _wrapped(readouts, width)
    foot = _ENTRY * len(below) + _GAP
    height = _TITLE + _HEIGHT * math.ceil(len(panels) / columns) + foot
    fig = Figure(figsize=(width, height), dpi=100)
    canvas = FigureCanvasAgg(fig)
    title, foot_text = _plain(packed.spec["title"]), _plain("\n".join(below))
    x = _GAP / width
    fig.text(x, 1 - 0.1 / height, title, fontsize=13, fontweight="bold", va="top")
    fig.text(x, 0.1 / height, foot_text, fontsize=9.5, va="bottom", linespacing=1.3)
    for first in range(0, len(panels), columns):
        row = panels[first : first + columns]
        top = height - _TITLE - _HEIGHT * (first // columns)
        axes = [fig.add_axes((0, 0, 1, 1)) for _ in row]
        under = max(_panel(ax, panel, read, canvas) for ax, panel in zip(axes, row, strict=True))
        low, high = (top - _HEIGHT + under + _GAP) / height, (top - _ABOVE) / height
        for i, (ax, panel) in enumerate(zip(axes, row, strict=True)):
            left = _LEFT if panel["axes"] else _GAP
            ax.set_position(
                ((cell * i + left) / width, low, (cell - left - _RIGHT) / width, high - low)
            )
    return fig


def png(packed: Packed) -> bytes:
    """The setting the sliders start at, as a PNG file."""
    file = io.BytesIO()
    figure(packed).savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _plain(text: str) -> str:
    """Text as matplotlib takes it: no stray formulas, and the 𝓛 that its font lacks."""
    return text.replace("$", r"\$").replace("𝓛", r"$\mathcal{L}$")


def _wrapped(parts: list[str], width: float) -> list[str]:
    lines: list[str] = []
    room = int(width * 13)
    for part in parts:
        if lines and len(lines[-1]) + len(part) + 5 <= room:
            lines[-1] += "  ·  " + part
        else:
            lines.append(part)
    return lines


def _panel(ax: Axes, panel: Described, read: Read, canvas: FigureCanvasAgg) -> float:
    """Draw one panel; inches that stand under it."""
    ax.set_title(_plain(panel["title"]), loc="left", fontsize=11, fontweight="bold", pad=20)
    ax.text(0, 1.02, _plain(panel["ylabel"]), transform=ax.transAxes, fontsize=9.5, va="bottom")
    ax.set_xlabel(_plain(panel["xlabel"]), fontsize=9.5)
    ax.set_xscale(panel["xscale"])
    ax.set_yscale(panel["yscale"])
    for order, mark in enumerate(panel["marks"]):
        _DRAW[mark["kind"]](ax, mark, panel, read, 2 + order / 100)
    ax.set_xlim(panel["xlim"])
    ax.set_ylim(panel["ylim"])
    ax.tick_params(labelsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, linewidth=0.6)
    if panel["equal"]:
        ax.set_aspect("equal", adjustable="box")
    if not panel["axes"]:
        ax.set_axis_off()
    below = _TICKS if panel["axes"] else 0.0
    if any(label.get_rotation() for label in ax.get_xticklabels()):
        reach = ax.xaxis.get_tightbbox(canvas.get_renderer())
        assert reach is not None
        below = (ax.bbox.y0 - reach.y0) / canvas.figure.dpi
    return below + _legend(ax, below)


def _legend(ax: Axes, below: float) -> float:
    """Under the panel, so that it never covers data; the inches it takes there."""
    handles, labels = ax.get_legend_handles_labels()
    if not labels:
        return 0.0
    named = dict(zip(reversed(labels), reversed(handles), strict=True))
    labels = sorted(named, key=labels.index)
    columns = 1 if max(map(len, labels)) > 22 else 2
    ax.legend(
        [named[label] for label in labels],
        labels,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        bbox_transform=ax.transAxes + ScaledTranslation(0, -below, ax.figure.dpi_scale_trans),
        ncols=columns,
        fontsize=9,
        frameon=False,
    )
    return _ENTRY * math.ceil(len(labels) / columns)


def _label(mark: Described) -> str:
    return _plain(mark["label"]) or "_nolegend_"


def _edge(ax: Axes, x: np.ndarray, y: np.ndarray, panel: Described, color: str) -> np.ndarray:
    """Draw a triangle on the lower edge for each y that the log axis cannot hold, and hide it."""
    low = np.isfinite(y) & (y <= 0) & (panel["yscale"] == "log")
    if low.any():
        bottom = np.full(low.sum(), panel["ylim"][0])
        look: dict[str, Any] = {"color": color, "markerfacecolor": "white", "markersize": 5}
        ax.plot(x[low], bottom, "v", **look, clip_on=False, zorder=4)
    return np.where(np.isfinite(y) & ~low, y, np.nan)


def _plot(ax: Axes, mark: Described, panel: Described, read: Read, **look: Any) -> None:
    x, color = read(mark["x"]), COLORS[mark["color"]]
    y = _edge(ax, x, read(mark["y"]), panel, color)
    ax.plot(np.where(np.isfinite(x), x, np.nan), y, color=color, label=_label(mark), **look)


def _line(ax: Axes, mark: Described, panel: Described, read: Read, z: float) -> None:
    look = {"linewidth": 0.8 * mark["width"], "linestyle": _DASHES[mark["dash"]], "markersize": 4.5}
    marker = MARKERS[mark["color"]] if mark["marker"] else None
    _plot(ax, mark, panel, read, marker=marker, zorder=z, **look)


def _points(ax: Axes, mark: Described, panel: Described, read: Read, z: float) -> None:
    look = {"linestyle": "none", "marker": MARKERS[mark["color"]], "markersize": 0.8 * mark["size"]}
    hollow = {"markerfacecolor": "white", "markeredgewidth": 1.5}
    look |= hollow if mark["hollow"] else {"markeredgewidth": 0.5}
    _plot(ax, mark, panel, read, zorder=z, **look)


def _bars(ax: Axes, mark: Described, panel: Described, read: Read, z: float) -> None:
    x, color = np.arange(len(mark["names"]), dtype=float), COLORS[mark["color"]]
    each = 0.8 / mark["of"]
    ax.bar(
        x + (mark["place"] - (mark["of"] - 1) / 2) * each,
        _edge(ax, x, read(mark["height"]), panel, color),
        width=0.92 * each,
        color=color,
        label=_label(mark),
        zorder=z,
    )
    long = sum(map(len, mark["names"])) > 34
    ax.set_xticks(x, [_plain(name) for name in mark["names"]])
    if long:
        for label in ax.get_xticklabels():
            label.set(rotation=35, ha="right", rotation_mode="anchor")


def _text(ax: Axes, mark: Described, panel: Described, read: Read, z: float) -> None:
    x, y = read(mark["x"]), read(mark["y"])
    said = mark.get("words")
    if said is None:
        said = [format_number(float(v), mark["format"]) for v in read(mark["numbers"])]
    prefix = mark["prefix"] or [""] * len(said)
    align = {"start": "left", "middle": "center", "end": "right"}[mark["anchor"]]
    color = "#222222" if mark["color"] == 6 else COLORS[mark["color"]]
    for i in np.flatnonzero(np.isfinite(x) & np.isfinite(y)):
        ax.text(
            x[i],
            y[i],
            _plain(prefix[i] + said[i]),
            color=color,
            fontsize=9.5,
            ha=align,
            va="center",
            bbox=_HALO,
            clip_on=True,
            zorder=z,
        )


_DRAW = {"line": _line, "points": _points, "bars": _bars, "text": _text}
