"""The report: one HTML page that stands alone, from the published marts.

Here: the page and its pictures. Not here: the numbers, which are the marts' own.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybrid_assets import plots, registry
from resources.artifacts import ArtifactStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Hybrid Assets: report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1b2a49; }
 table { border-collapse: collapse; width: 100%; font-size: 13px; }
 th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid #dde2ea; vertical-align: top; }
 td.n { text-align: right; font-variant-numeric: tabular-nums; }
 .tag { padding: 0 .4rem; border-radius: .6rem; background: #e8ecf4; white-space: nowrap; }
 .quantum { background: #d6e4ff; } .classical { background: #e4e8d8; } .tie { background: #f2ead0; }
 section { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 1rem; margin: 1rem 0 2rem; }
 img { max-width: 100%; } h2 { margin-top: 2.5rem; } .note { color: #5a6478; }
</style></head><body>
<h1>Who won, by how much, with what confidence</h1>
<p class="note">Evidence classes: <b>simulator</b> is noise-free quantum dynamics on this machine, <b>emulator</b> a noisy
circuit model, <b>surrogate</b> a classical sampler behind a quantum interface (never counted as quantum),
<b>classical</b> a classical solver. Both sides had the same wall-clock budget. Confidence is the probability that a
repeat reaches the candidate again, not that it is optimal; bounds and gaps stand in their own columns.</p>
<table><tr>{% for name in columns %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for kind, cell in row %}<td class="{{ kind }}">{% if kind == 'tagged' %}<span
 class="tag {{ cell }}">{{ cell }}</span>{% else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table>
<p><img alt="gaps of all arms" src="{{ gaps }}"></p>
{% for item in instances %}<h2>{{ item.instance }}</h2>
<p>{{ item.reason }} <span class="note">({{ item.gap_definition }})</span></p>
<section>{% for picture in item.pictures %}<div><img alt="{{ item.instance }}" src="{{ picture }}"></div>{% endfor %}
</section>{% endfor %}
</body></html>
"""

COLUMNS = ("instance", "size", "best_quantum", "best_classical", "best_known", "bound", "quantum_gap", "classical_gap",
           "evidence_class", "confidence", "decision", "source", "winner", "seconds")


def write_report(path: Path, frames: dict[str, pd.DataFrame], artifacts: ArtifactStore, inputs: pd.DataFrame) -> int:
    """Write the page by atomic rename.

    Args:
        frames: the marts ``leaderboard``, ``decisions``, ``comparisons`` and ``baselines``.
        inputs: columns ``instance`` and ``payload_ref``.

    Returns:
        size of the page in bytes.
    """
    from jinja2 import Environment

    board = frames["leaderboard"].sort_values(["family", "instance"])
    refs = dict(inputs[["instance", "payload_ref"]].itertuples(index=False))
    page = Environment(autoescape=True).from_string(PAGE).render(
        columns=COLUMNS,
        rows=[[_cell(name, row[name]) for name in COLUMNS] for row in board.to_dict("records")],
        gaps=plots.data_uri(gap_chart(frames["comparisons"])),
        instances=[_item(row, frames, artifacts, refs) for row in board.to_dict("records")],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, path)
    return path.stat().st_size


def _cell(name: str, value: Any) -> tuple[str, str]:
    if value is None or value != value:
        return "n", "–"
    if name == "winner":
        return "tagged", str(value)
    if name.endswith("_gap"):
        return "n", f"{100 * value:.3f} %"
    return ("n", f"{value:.6g}") if isinstance(value, int | float) else ("", str(value))


def _item(row: dict[str, Any], frames: dict[str, pd.DataFrame], artifacts: ArtifactStore, refs: dict[str, str]
          ) -> dict[str, Any]:
    from hybrid_assets.problems.base import Instance

    key = row["instance"]
    family = registry.family(row["family"])
    decided = frames["decisions"].set_index("instance").loc[key]
    compared = frames["comparisons"].set_index("instance").loc[key]
    runs = frames["baselines"][frames["baselines"]["instance"] == key]
    instance = Instance.from_bytes(artifacts.get(refs[key]))
    pictures: list[Figure] = []
    if isinstance(decided["values"], str):
        chosen = np.array(json.loads(decided["values"]), dtype=float)
        pictures.append(family.plot_solution(instance, {"accepted": chosen}))
    pictures.append(plots.trajectories(runs.where(runs.notna(), None).to_dict("records"), row["sense"], f"baselines of {key}"))
    return {"instance": key, "reason": decided["reason"], "gap_definition": f"gap = {compared['gap_definition']}",
            "pictures": [plots.data_uri(p) for p in pictures]}


def gap_chart(comparisons: pd.DataFrame) -> Figure:
    """Gaps of every arm by instance, in per cent."""
    from matplotlib.figure import Figure

    frame = comparisons.sort_values("instance")
    figure = Figure(figsize=(10, 1.2 + 0.42 * max(1, len(frame))), layout="constrained")
    axes = figure.add_subplot()
    arms = (("random_gap", "#b9bec7", "s"), ("surrogate_gap", "#c98a2b", "D"), ("quantum_gap", "#3b6fd4", "o"),
            ("classical_gap", "#5a7d3a", "|"))
    places = np.arange(len(frame))
    for name, colour, marker in arms:
        axes.scatter(100 * frame[name].astype(float), places, color=colour, marker=marker, s=60,
                     label=name.removesuffix("_gap"))
    axes.set_yticks(places, frame["instance"])
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=0.01)
    axes.set_xlabel("gap to the reference in % (0 is as good; left is better)")
    axes.grid(axis="x", color="#e6e9ef")
    axes.legend(fontsize=8, ncols=4, loc="lower right")
    return figure
