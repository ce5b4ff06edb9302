"""Pictures that belong to no single family, the figure they all start from, and how a figure becomes HTML.

Here: matplotlib without pyplot state. Not here: a family's own pictures (``problems``).
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from resources.envelope import SampleCount


def small_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches with fixed margins: solving for a layout takes longer than drawing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=0.9 / width, right=1 - 0.2 / width, bottom=0.55 / height, top=1 - 0.4 / height, wspace=0.15
    )
    return figure


def png(figure: Figure, dpi: int = 70) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def data_uri(figure: Figure, dpi: int = 70) -> str:
    """The figure as a ``data:`` address, for pages that stand alone."""
    return "data:image/png;base64," + base64.b64encode(png(figure, dpi)).decode()


def energy_histogram(samples: Sequence[SampleCount], random: np.ndarray, title: str) -> Figure:
    """Energies of the samples (by counts) against those of uniformly random bits, as shares."""
    energies = np.array([s.energy for s in samples])
    counts = np.array([s.count for s in samples], dtype=float)
    edges = np.histogram_bin_edges(np.concatenate([energies, random]), bins=40).tolist()
    figure = small_figure(6.4, 3.4)
    axes = figure.add_subplot()
    chance, found = np.histogram(random, edges)[0], np.histogram(energies, edges, weights=counts)[0]
    axes.stairs(chance / len(random), edges, fill=True, color="#b9bec7", label="uniform random bits")
    axes.stairs(found / counts.sum(), edges, fill=True, color="#3b6fd4", alpha=0.75, label="samples")
    axes.axvline(energies.min(), color="#1b2a49", linewidth=1, linestyle="--", label=f"best {energies.min():.6g}")
    axes.set_xlabel("energy (lower is better)")
    axes.set_ylabel("share")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8, loc="upper left")
    return figure


def best_values(arms: Mapping[str, pd.DataFrame], sense: str) -> dict[str, np.ndarray]:
    """The best feasible solution of each arm (frames with ``values``, ``objective``, ``feasible``)."""
    best = {}
    for arm, frame in arms.items():
        feasible = frame[frame["feasible"]].sort_values("objective", ascending=sense == "min")
        if len(feasible):
            best[arm] = np.array(json.loads(feasible["values"].iloc[0]), dtype=float)
    return best


def trajectories(
    rows: Sequence[Mapping[str, Any]], sense: str, title: str, levels: Mapping[str, float] | None = None
) -> Figure:
    """Objective against seconds for every baseline, with proven bounds as dashed lines.

    Args:
        rows: of ``baseline_runs``.
        levels: further objectives by label, as dotted lines.
    """
    figure = small_figure(6.4, 3.6)
    axes = figure.add_subplot()
    for number, row in enumerate(rows):
        steps = json.loads(row["trajectory"])
        colour = f"C{number}"
        if steps:
            seconds, values = zip(*steps, strict=True)
            # on a logarithmic axis nothing happens at 0 s
            times = np.maximum([*seconds, max(row["seconds"], seconds[-1])], 1e-3)
            axes.step(
                times, [*values, values[-1]], where="post", color=colour, marker="o", markersize=3, label=row["solver"]
            )
        # frames give a missing bound back as NaN
        if row["bound"] is not None and np.isfinite(row["bound"]):
            axes.axhline(
                row["bound"], color=colour, linestyle="--", linewidth=1, label=f"{row['solver']}: proven bound"
            )
    for label, value in (levels or {}).items():
        axes.axhline(value, color="#1b2a49", linestyle=":", linewidth=1.5, label=label)
    low, high = axes.get_ylim()
    if high - low < 1e-6 * max(abs(low), abs(high)):
        # differences of rounding are no news: show one level, not the noise around it
        axes.set_ylim(*sorted((0.99 * low, 1.01 * high)))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"objective ({'lower' if sense == 'min' else 'higher'} is better)")
    axes.set_title(title, fontsize=10)
    # a fixed place: looking for the best one takes longer than the rest of the picture
    axes.legend(fontsize=7, ncols=2, loc="center right")
    return figure
