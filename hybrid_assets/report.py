"""The report: one HTML page that stands alone, from the published marts.

Here: the page and its pictures. Not here: the numbers, which are the marts' own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hybrid_assets import plots, registry
from resources.artifacts import ArtifactStore

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: At most so many instances (the newest decisions) get pictures: each costs about half a second and 80 kB.
PICTURED = 16

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Hybrid Assets: report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
 body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem; color: #1b2a49; }
 h1 { margin-bottom: .2rem; } h2 { margin: 2.5rem 0 .3rem; } a { color: #2a56a8; } img { max-width: 100%; }
 .note { color: #5a6478; } .wide { overflow-x: auto; }
 .tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
 .tiles div { border: 1px solid #dde2ea; border-radius: .5rem; padding: .5rem 1rem; min-width: 7rem; }
 .tiles b { display: block; font-size: 1.6rem; line-height: 1.3; }
 table { border-collapse: collapse; width: 100%; font-size: 13px; }
 th, td { text-align: left; padding: .3rem .5rem; border-bottom: 1px solid #dde2ea; vertical-align: top; }
 th { border-bottom: 2px solid #b9bec7; } td { white-space: nowrap; }
 .n { text-align: right; font-variant-numeric: tabular-nums; }
 .tag { padding: 0 .5rem; border-radius: .6rem; background: #e8ecf4; white-space: nowrap; font-size: 13px; }
 .quantum { background: #d6e4ff; } .classical { background: #dfe8d2; } .tie { background: #f2ead0; }
 .outdated, .pending, .none { background: #f6dcd6; }
 section th { white-space: nowrap; border-bottom: 1px solid #dde2ea; } section td { white-space: normal; }
 section { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1.2rem;
   align-items: start; margin-top: .8rem; }
</style></head><body>
<h1>Who won, by how much, with what confidence</h1>
<p class="note">{{ summary }}</p>
<div class="tiles">{% for number, label in tiles %}<div><b>{{ number }}</b>{{ label }}</div>{% endfor %}</div>
<div class="wide"><table><tr>{% for kind, title in columns %}<th class="{{ kind }}">{{ title }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for kind, cell in row %}<td class="{{ kind }}">{% if kind == 'tagged' %}<span
 class="tag {{ cell }}">{{ cell }}</span>{% elif kind == 'key' and cell in pictured %}<a
 href="#{{ cell }}">{{ cell }}</a>{% else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}</table></div>
<p class="note">A gap is measured against the best known objective, else the proven or the best found one; 0 is as good,
and how it is scaled is said with each instance. Both sides had the same wall-clock budget. <b>Evidence</b>:
<i>simulator</i> is noise-free quantum dynamics on a classical machine, <i>emulator</i> a noisy circuit model,
<i>hardware</i> a quantum processor; a <i>surrogate</i> (a classical sampler behind a quantum interface) never counts as
quantum. <i>Noise-dominated</i>: the estimated success probability of the circuit is below 0.05. <i>Cached</i>: an
earlier result of the same problem answered. <b>Confidence</b> is the probability that a repeat reaches the answer
again, not that it is optimal.</p>
{% if gaps %}<p><img alt="gaps of all arms" src="{{ gaps }}"></p>{% endif %}
{% for item in instances %}<h2 id="{{ item.instance }}">{{ item.instance }}
<span class="tag {{ item.state }}">{{ item.state }}</span></h2>
<p>{{ item.reason }}</p>
<section><table>{% for name, value in item.facts %}<tr><th>{{ name }}</th><td>{{ value }}</td></tr>{% endfor %}</table>
{% for picture in item.pictures %}<div><img alt="{{ item.instance }}" src="{{ picture }}"></div>{% endfor %}</section>
{% endfor %}
{% if hidden %}<p class="note">Pictures are shown for the {{ pictured | length }} newest decisions; the other
{{ hidden }} are in the table.</p>{% endif %}
</body></html>
"""

#: Columns of the leaderboard shown, and their titles.
COLUMNS = {
    "instance": "instance",
    "size": "size",
    "best_quantum": "best quantum",
    "best_classical": "best classical",
    "best_known": "best known",
    "bound": "proven bound",
    "quantum_gap": "quantum gap",
    "classical_gap": "classical gap",
    "evidence_class": "evidence",
    "confidence": "confidence",
    "decision": "decision",
    "source": "answer by",
    "winner": "winner",
    "seconds": "seconds",
}
TEXTS = frozenset({"evidence_class", "decision", "source"})


def write_report(path: Path, frames: dict[str, pd.DataFrame], artifacts: ArtifactStore, inputs: pd.DataFrame) -> int:
    """Write the page by atomic rename.

    Args:
        frames: the marts ``leaderboard``, ``decisions``, ``comparisons``, ``baselines`` and ``lineage``.
        inputs: columns ``instance`` and ``payload_ref``.

    Returns:
        size of the page in bytes.
    """
    from jinja2 import Environment

    board = frames["leaderboard"].sort_values(["family", "instance"])
    newest = frames["decisions"].sort_values("decided_at", ascending=False)["instance"].head(PICTURED)
    pictured = board[board["instance"].isin(set(newest))]
    refs = dict(zip(inputs["instance"], inputs["payload_ref"], strict=True))
    compared = frames["comparisons"][frames["comparisons"]["instance"].isin(set(newest))]
    origins = {str(row["instance"]): row for row in frames["lineage"].to_dict("records")}
    page = (
        Environment(autoescape=True)
        .from_string(PAGE)
        .render(
            summary=_summary(board, frames["decisions"]),
            tiles=_tiles(board),
            columns=[(_kind(name), title) for name, title in COLUMNS.items()],
            rows=[
                [_cell(name, _shown(name, row, origins[row["instance"]])) for name in COLUMNS]
                for row in board.to_dict("records")
            ],
            gaps=plots.data_uri(gap_chart(compared), dpi=100) if len(compared) else None,
            instances=[
                _item(row, frames, artifacts, refs, origins[row["instance"]]) for row in pictured.to_dict("records")
            ],
            pictured=set(newest),
            hidden=len(board) - len(pictured),
        )
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(page, encoding="utf-8")
    os.replace(aside, path)
    return path.stat().st_size


def _summary(board: pd.DataFrame, decisions: pd.DataFrame) -> str:
    if board.empty:
        return "Nothing has been answered yet."
    current = board[board["is_current"]]
    count = {side: int((current["winner"] == side).sum()) for side in ("quantum", "classical", "tie")}
    said = (
        f"At equal budgets classical solvers were better on {count['classical']} of {len(current)} instances, the "
        f"quantum side on {count['quantum']}, and {count['tie']} ended level."
    )
    environments = ", ".join(sorted(set(decisions["environment"])))
    return f"{said} Environment {environments}, newest decision {decisions['decided_at'].max():%Y-%m-%d %H:%M} UTC."


def _tiles(board: pd.DataFrame) -> list[tuple[str, str]]:
    current = board[board["is_current"]]
    found = [(str(len(board)), "instances")]
    found += [(str(int((current["decision"] == d).sum())), d) for d in ("accepted", "fallback", "review")]
    found += [
        (str(int((current["winner"] == w).sum())), t)
        for w, t in (("quantum", "quantum better"), ("tie", "level"), ("classical", "classical better"))
    ]
    outdated = int((~board["is_current"]).sum())
    return [*found, (str(outdated), "outdated or pending")] if outdated else found


def _state(row: Mapping[Any, Any]) -> str:
    """Who won, or that the row no longer answers the newest input."""
    if row["pending"]:
        return "pending"
    if not row["is_current"]:
        return "outdated"
    return row["winner"] if isinstance(row["winner"], str) else "none"


def _shown(name: str, row: Mapping[Any, Any], origin: Mapping[Any, Any]) -> Any:
    """A leaderboard's cell: as the mart has it, but for who won and what the evidence is worth."""
    if name == "winner":
        return _state(row)
    return _labelled(row[name], origin) if name == "evidence_class" else row[name]


def _labelled(evidence: Any, origin: Mapping[Any, Any]) -> Any:
    """A quantum evidence class with what else must be known about its result."""
    if not isinstance(evidence, str):
        return evidence
    labels = {"noise-dominated": origin["noise_dominated"], "cached": origin["cached"]}
    return ", ".join([evidence, *(label for label, holds in labels.items() if holds)])


def _kind(name: str) -> str:
    return {"instance": "key", "winner": "tagged"}.get(name, "" if name in TEXTS else "n")


def _cell(name: str, value: Any) -> tuple[str, str]:
    return _kind(name), _text(name, value)


def _text(name: str, value: Any) -> str:
    if value is None or value != value:
        return "–"
    if name.endswith(("_gap", "_lift")) or name == "gap":
        return f"{100 * value:.3f} %" if value else "0 %"
    if isinstance(value, float):
        return f"{value:.2f}" if name in ("seconds", "confidence") else f"{value:.6g}"
    return str(value)


def _item(
    row: Mapping[Any, Any],
    frames: dict[str, pd.DataFrame],
    artifacts: ArtifactStore,
    refs: dict[str, str],
    origin: Mapping[Any, Any],
) -> dict[str, Any]:
    from hybrid_assets.problems.base import Instance

    key = row["instance"]
    family = registry.family(row["family"])
    decided = frames["decisions"].set_index("instance").loc[key].to_dict()
    compared = frames["comparisons"].set_index("instance").loc[key].to_dict()
    runs = frames["baselines"][frames["baselines"]["instance"] == key]
    pictures: list[Figure] = []
    # an outdated decision is not about the input that is there now
    if row["is_current"] and isinstance(decided["solution"], str):
        instance = Instance.from_bytes(artifacts.get(refs[key]))
        chosen = np.array(json.loads(decided["solution"]), dtype=float)
        pictures.append(family.plot_solution(instance, {"accepted": chosen}))
    records = runs.astype(object).where(runs.notna(), None).to_dict("records")
    best = compared["best_quantum"]
    pictures.append(
        plots.trajectories(
            records, row["sense"], "baselines over time", {} if best != best or best is None else {"best quantum": best}
        )
    )
    facts = {
        "objective": f"{_text('objective', decided['objective'])} ({decided['sense']})",
        "proven bound": _text("bound", decided["bound"]),
        "gap": f"{_text('gap', decided['gap'])} = {compared['gap_definition']}; "
        f"reference: {compared['reference_kind']}",
        "answer by": f"{decided['source']}: {decided['solver_or_backend']} ({decided['post_processing']})",
        "evidence class": _labelled(decided["evidence_class"], origin)
        if decided["source"] in ("quantum", "hybrid", "surrogate")
        else decided["evidence_class"],
        "confidence": f"{_text('confidence', decided['confidence'])} "
        f"({_text('confidence', decided['confidence_low'])} to {_text('confidence', decided['confidence_high'])})",
        "lift over random": _text("quantum_lift", compared["quantum_lift"]),
        "narrowed": "yes" if row["narrowed"] else "no",
        "budget": f"{compared['budget_seconds']:g} s for the quantum side, and for each baseline",
        "owner": decided["owner"],
    }
    if isinstance(origin["fallback_reason"], str):
        facts["backends left"] = origin["fallback_reason"]
    return {
        "instance": key,
        "reason": decided["reason"],
        "state": _state(row),
        "facts": list(facts.items()),
        "pictures": [plots.data_uri(p) for p in pictures],
    }


def gap_chart(comparisons: pd.DataFrame) -> Figure:
    """Gaps of every arm by instance, in per cent: the lower on the axis the better."""
    from matplotlib.figure import Figure

    frame = comparisons.sort_values("instance")
    figure = Figure(figsize=(11, 1.4 + 0.4 * max(1, len(frame))), layout="constrained")
    axes = figure.add_subplot()
    arms = (
        ("random_gap", "#9aa1ad", "s", 40),
        ("surrogate_gap", "#c98a2b", "D", 40),
        ("quantum_gap", "#3b6fd4", "o", 70),
        ("classical_gap", "#3f6b1e", "|", 220),
    )
    places = np.arange(len(frame))
    for name, colour, marker, size in arms:
        gaps = 100 * frame[name].astype(float)
        if gaps.notna().any():
            axes.scatter(gaps, places, color=colour, marker=marker, s=size, label=name.removesuffix("_gap"))
    axes.set_yticks(places, frame["instance"])
    axes.set_ylim(len(frame) - 0.5, -0.5)
    axes.set_xscale("symlog", linthresh=0.01)
    if axes.get_xlim()[0] < 0 and not (frame[[name for name, *_ in arms]].astype(float) < 0).any(axis=None):
        axes.set_xlim(left=-0.002)
    axes.set_xlabel("gap in % (0 is as good as the reference, left is better)")
    axes.grid(axis="x", color="#e6e9ef")
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, ncols=4, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return figure
