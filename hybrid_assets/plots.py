"""Pictures that belong to no single family: energy histograms, the leaderboard's gaps; and how a figure becomes
Dagster metadata or HTML.

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
    import dagster as dg
    import pandas as pd
    from matplotlib.figure import Figure

    from resources.envelope import SampleCount


def png(figure: Figure, dpi: int = 70) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def data_uri(figure: Figure, dpi: int = 70) -> str:
    """The figure as a ``data:`` address, for pages that stand alone."""
    return "data:image/png;base64," + base64.b64encode(png(figure, dpi)).decode()


def as_markdown(figure: Figure) -> dg.MarkdownMetadataValue:
    """The figure as Markdown metadata, shown in the asset's page."""
    import dagster as dg

    return dg.MetadataValue.md(f"![plot]({data_uri(figure)})")


def energy_histogram(samples: Sequence[SampleCount], random: np.ndarray, title: str) -> Figure:
    """Energies of the samples (by counts) against those of uniformly random bits, as shares."""
    from matplotlib.figure import Figure

    energies = np.array([s.energy for s in samples])
    counts = np.array([s.count for s in samples], dtype=float)
    edges = np.histogram_bin_edges(np.concatenate([energies, random]), bins=40).tolist()
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(
        random, bins=edges, weights=np.full(len(random), 1 / len(random)), color="#b9bec7", label="uniform random bits"
    )
    axes.hist(energies, bins=edges, weights=counts / counts.sum(), color="#3b6fd4", alpha=0.75, label="samples")
    axes.axvline(energies.min(), color="#1b2a49", linewidth=1, linestyle="--", label=f"best {energies.min():.6g}")
    axes.set_xlabel("energy (lower is better)")
    axes.set_ylabel("share")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
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
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
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
        if row["bound"] is not None:
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
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"objective ({'lower' if sense == 'min' else 'higher'} is better)")
    axes.set_title(title, fontsize=10)
    figure.legend(fontsize=8, ncols=3, loc="outside lower center", frameon=False)
    return figure
