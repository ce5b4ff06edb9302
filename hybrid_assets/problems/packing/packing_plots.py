"""Pictures of the knapsack, bin packing and market split families: items, fill charts, residuals.

Here: matplotlib figures without pyplot state. Not here: anything that is computed to be decided upon.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Instance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Bins drawn one by one, item by item; further ones are left out, which the title says.
DRAWN_BINS = 120
_TONES = ("#4c72b0", "#8fb0d9", "#1b9e77", "#8fd0b8")


def items(instance: Instance) -> Figure:
    """Knapsack: value (with half of the pair values) against the mean share of the capacities that an item uses."""
    a = instance.arrays
    value = a["values"] + 0.5 * (
        np.bincount(a["rows"], a["pairs"], instance.size) + np.bincount(a["cols"], a["pairs"], instance.size)
    )
    share = (a["weights"] / np.maximum(a["capacities"], 1)[:, None]).mean(axis=0)
    figure = small_figure(6.4, 4.0)
    axes = figure.add_subplot()
    axes.scatter(100 * share, value, s=14, color="#4c72b0")
    axes.set_xlabel("weight, % of the capacity" + (" (mean of all)" if len(a["capacities"]) > 1 else ""))
    axes.set_ylabel("value" + (" + half of the pair values" if len(a["pairs"]) else ""))
    axes.set_title(f"{instance.name}: {instance.size} items, {len(a['capacities'])} capacities", fontsize=10)
    return figure


def capacities(instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
    """Knapsack: the share of every capacity that each solution uses, one group of bars per capacity."""
    a = instance.arrays
    figure = small_figure(6.4, 3.6)
    axes = figure.add_subplot()
    places = np.arange(len(a["capacities"]))
    width = 0.8 / max(1, len(solutions))
    for k, (label, values) in enumerate(solutions.items()):
        used = 100 * (a["weights"] @ np.asarray(values, dtype=np.float64)) / np.maximum(a["capacities"], 1)
        axes.bar(places + (k + 0.5) * width - 0.4, used, width, label=label, color=f"C{k}")
    axes.axhline(100, color="#d62728", linewidth=1, linestyle="--")
    axes.set_xticks(places if len(places) <= 30 else [], [str(r + 1) for r in places] if len(places) <= 30 else [])
    axes.set_xlabel("capacity")
    axes.set_ylabel("used, %")
    axes.set_ylim(0, 125)
    axes.set_title(instance.name, fontsize=10)
    axes.legend(fontsize=8, loc="upper center", ncols=3)
    return figure


def sizes(instance: Instance) -> Figure:
    """Bin packing: how many items there are of which size."""
    figure = small_figure(6.4, 3.6)
    axes = figure.add_subplot()
    share = 100 * instance.arrays["sizes"] / instance.arrays["capacity"][0]
    axes.hist(share, bins=min(40, max(5, instance.size)), color="#4c72b0")
    axes.set_xlabel("size, % of a bin")
    axes.set_ylabel("items")
    axes.set_title(f"{instance.name}: {instance.size} items, {share.sum() / 100:.2f} bins full in all", fontsize=10)
    return figure


def bins(instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
    """Bin packing: every bin as a stack of its items, fullest first, one panel per solution."""
    figure = small_figure(4.6 * max(1, len(solutions)), 3.8)
    panels = np.atleast_1d(figure.subplots(1, max(1, len(solutions)), sharey=True))
    for axes, (label, values) in zip(panels, solutions.items(), strict=False):
        _stacks(axes, instance, np.asarray(values, dtype=np.int64))
        axes.set_title(label, fontsize=10)
    panels[0].set_ylabel("filled, % of a bin")
    return figure


def _stacks(axes: Axes, instance: Instance, assigned: np.ndarray) -> None:
    used, index = np.unique(assigned, return_inverse=True)
    share = 100 * instance.arrays["sizes"] / instance.arrays["capacity"][0]
    loads = np.bincount(index, share)
    place = np.empty(len(used), dtype=np.int64)
    place[np.argsort(-loads, kind="stable")] = np.arange(len(used))
    # items bin by bin, the largest at the bottom; the level of each is the sum of those below it
    order = np.lexsort((-share, place[index]))
    order = order[place[index[order]] < DRAWN_BINS]
    where = place[index[order]]
    starts = np.flatnonzero(np.diff(where, prepend=-1))
    running = np.cumsum(share[order]) - share[order]
    counts = np.diff(np.append(starts, len(order)))
    bottom = running - np.repeat(running[starts], counts)
    level = np.arange(len(order)) - np.repeat(starts, counts)
    tones = [_TONES[k % len(_TONES)] for k in level.tolist()]
    axes.bar(where, share[order], 0.85, bottom=bottom, color=tones, edgecolor="white", linewidth=0.3)
    axes.axhline(100, color="#d62728", linewidth=1, linestyle="--")
    axes.set_xlabel("bin" if len(used) <= DRAWN_BINS else f"bin (the {DRAWN_BINS} fullest of {len(used)})")


def residuals(instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
    """Market split: Ax − b of every row, one group of bars per solution."""
    a = instance.arrays
    figure = small_figure(6.4, 3.6)
    axes = figure.add_subplot()
    rows = np.arange(len(a["targets"]))
    width = 0.8 / max(1, len(solutions))
    for k, (label, values) in enumerate(solutions.items()):
        off = a["matrix"] @ np.asarray(values, dtype=np.int64) - a["targets"]
        axes.bar(rows + (k + 0.5) * width - 0.4, off, width, label=label, color=f"C{k}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(rows if len(rows) <= 30 else [], [str(r + 1) for r in rows] if len(rows) <= 30 else [])
    axes.set_xlabel("row")
    axes.set_ylabel("Ax − b")
    axes.set_title(instance.name, fontsize=10)
    axes.legend(fontsize=8)
    return figure


def matrix(instance: Instance) -> Figure:
    """Market split: the coefficients, one row per product, and the targets as shares of the rows' sums."""
    a = instance.arrays
    figure = small_figure(6.4, 3.2)
    axes = figure.add_subplot()
    m, n = a["matrix"].shape
    extent = (0.5, n + 0.5, m + 0.5, 0.5)
    shown = axes.imshow(a["matrix"], aspect="auto", cmap="viridis", interpolation="nearest", extent=extent)
    axes.set_yticks(np.arange(1, m + 1, max(1, m // 10)))
    figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.04)
    axes.set_xlabel("retailer")
    axes.set_ylabel("row")
    axes.set_title(f"{instance.name}: {len(a['targets'])} rows, {instance.size} bits", fontsize=10)
    return figure
