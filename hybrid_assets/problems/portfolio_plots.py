"""Pictures of the portfolio family. Matplotlib figures without pyplot state; nothing is computed that is not drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hybrid_assets.plots import small_figure
from hybrid_assets.problems.base import Instance
from hybrid_assets.problems.portfolio_ruled import relaxed_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Up to this many assets carry their names.
_NAMED = 40
_MARKERS = "*DosP^vX"


def assets(instance: Instance) -> Figure:
    """Risk and return per period of every asset."""
    return _canvas(instance, f"{instance.name}: {instance.size} assets")[0]


def frontier(instance: Instance, solutions: Mapping[str, np.ndarray]) -> Figure:
    """The efficient frontier without cardinality and lots, and portfolios by name on top of it."""
    figure, axes = _canvas(instance, f"{instance.name}: {instance.settings['cardinality']} of {instance.size} assets")
    mean, covariance = instance.arrays["mean"], instance.arrays["covariance"]
    steps = np.linspace(0.0, 1.0, 25 if instance.size <= 100 else 9) ** 0.5
    points = [relaxed_weights(instance, float(t)) for t in steps]
    axes.plot(
        [_risk(covariance, w) for w in points],
        [mean @ w for w in points],
        color="#1b2a49",
        linewidth=1.2,
        label="frontier of the relaxation",
    )
    for number, (label, weights) in enumerate(solutions.items()):
        axes.scatter(
            _risk(covariance, weights),
            mean @ weights,
            marker=_MARKERS[number % len(_MARKERS)],
            s=200 / (1 + number),
            color=f"C{number}",
            edgecolor="black",
            linewidth=0.5,
            zorder=3,
            label=label,
        )
    axes.legend(fontsize=8)
    return figure


def _canvas(instance: Instance, title: str) -> tuple[Figure, Axes]:
    figure = small_figure(6.4, 4.2)
    axes = figure.add_subplot()
    risk, mean = np.sqrt(np.diag(instance.arrays["covariance"])), instance.arrays["mean"]
    axes.scatter(risk, mean, s=14, color="#b9bec7", zorder=1)
    if instance.size <= _NAMED:
        for label, x, y in zip(instance.labels, risk, mean, strict=True):
            axes.annotate(label, (x, y), fontsize=6, xytext=(3, 2), textcoords="offset points", color="#5b6270")
    axes.set_xlabel("risk (standard deviation per period)")
    axes.set_ylabel("expected return per period")
    axes.set_title(title, fontsize=10)
    return figure, axes


def _risk(covariance: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(max(weights @ covariance @ weights, 0.0)))
