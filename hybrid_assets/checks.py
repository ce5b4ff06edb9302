"""Invariants of the stages: pure functions called before a table is stored, reported as blocking asset checks.

Here: what must hold, table by table. Not here: column types and ranges (``contracts``, reported as the ``schema``
check), or Dagster (``assets.stage`` translates).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from resources.envelope import EvidenceClass

if TYPE_CHECKING:
    from hybrid_assets.problems.base import Instance, ProblemFamily
    from hybrid_assets.proposals.rounds import RoundResult

#: Evidence classes from the weakest claim to the strongest.
CLAIMS = [
    EvidenceClass.CLASSICAL,
    EvidenceClass.SURROGATE,
    EvidenceClass.SIMULATOR,
    EvidenceClass.EMULATOR,
    EvidenceClass.HARDWARE,
]


@dataclass(frozen=True)
class CheckContext:
    """What a check may look at besides the rows."""

    source: str
    family: ProblemFamily | None = None
    instance: Instance | None = None
    rounds: tuple[RoundResult, ...] = ()
    #: evidence class that each backend's results carried
    best_class: dict[str, str] = field(default_factory=dict)
    envelope_digest: str | None = None


@dataclass(frozen=True)
class Check:
    """One invariant of one table."""

    name: str
    description: str
    find: Callable[[pd.DataFrame, CheckContext], list[str]]


def of(table: str) -> list[Check]:
    """The checks of a table beyond its schema."""
    return CHECKS.get(table, [])


def _energies(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    problems = []
    for done in context.rounds:
        mine = frame[frame["round_digest"] == done.envelope.digest]
        if mine.empty:
            problems.append(f"round {done.envelope.round} has no sample")
            continue
        bits = np.array([[int(b) for b in text] for text in mine["bits"]], dtype=np.int8)
        again = done.prepared.encoded.bqm.energies((bits, range(bits.shape[1])))
        scale = max(1.0, float(np.abs(again).max()))
        wrong = np.flatnonzero(np.abs(again - mine["energy"].to_numpy()) > 1e-6 * scale)
        if len(wrong):
            row = int(wrong[0])
            problems.append(
                f"round {done.envelope.round}, rank {int(mine['rank'].iloc[row])}: the backend reports "
                f"energy {mine['energy'].iloc[row]:.9g}, the program gives {again[row]:.9g}"
            )
        if int(mine["count"].sum()) != done.result.shots:
            problems.append(
                f"round {done.envelope.round}: the counts add up to {int(mine['count'].sum())}, not to "
                f"{done.result.shots} shots"
            )
    return problems


def _evidence(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    problems = []
    for backend, claimed in frame[["backend", "evidence_class"]].drop_duplicates().itertuples(index=False):
        best = context.best_class.get(backend, EvidenceClass.CLASSICAL)
        if CLAIMS.index(EvidenceClass(claimed)) > CLAIMS.index(EvidenceClass(best)):
            problems.append(f"rows of {backend} claim {claimed}, it can only be {best}")
    return problems


def _current(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    other = set(frame["envelope_digest"]) - {context.envelope_digest}
    return [f"rows belong to envelope {sorted(other)[0]}, current is {context.envelope_digest}"] if other else []


def _values(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    """Objective and feasibility of each stored solution, recomputed from the instance."""
    assert context.family is not None
    assert context.instance is not None
    problems = []
    for row in frame[["values", "objective", "feasible"]].dropna(subset=["values"]).itertuples(index=False):
        again = context.family.evaluate(context.instance, np.array(json.loads(row[0]), dtype=float))
        if bool(row[2]) != again.feasible:
            violated = dict(again.violations) or "nothing"
            problems.append(f"a row says feasible={bool(row[2])}, its values violate {violated}")
        elif abs(again.objective - row[1]) > 1e-9 * max(1.0, abs(again.objective)):
            problems.append(f"a row says objective {row[1]:.12g}, its values give {again.objective:.12g}")
    return problems


def _bounds(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    assert context.instance is not None
    sign = -1.0 if context.instance.sense == "max" else 1.0
    best = frame.loc[frame["feasible"], "objective"].mul(sign).min()
    problems = []
    for row in frame.dropna(subset=["bound"])[["solver", "bound"]].itertuples(index=False):
        if best < sign * row[1] - 1e-6 * max(1.0, abs(row[1])):
            problems.append(f"{row[0]} claims bound {row[1]:.9g}, a feasible solution has {sign * best:.9g}")
    return problems


def _no_surrogate(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    return [
        f"best_quantum comes from {c}"
        for c in frame["quantum_evidence_class"].dropna()
        if not EvidenceClass(c).is_quantum
    ]


def _accepted_feasible(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    answered = frame[frame["decision"] != "review"]
    return ["an accepted answer is not feasible"] if not answered["feasible"].all() else []


def _round_trips(frame: pd.DataFrame, context: CheckContext) -> list[str]:
    problems = []
    if (frame["round_trips"] < 1).any():
        problems.append("no round trip decode(encode(x)) = x was checked")
    if (frame["penalty_verdict"] == "refuted").any():
        problems.append(f"the penalty is too small: {frame['penalty_evidence'].iloc[0]}")
    return problems


_VALUES = Check("objective", "objective and feasibility, recomputed from the stored values, are as stored", _values)
_EVIDENCE = Check("evidence_class", "no row claims a better evidence class than its backend has", _evidence)
_CURRENT = Check("current_envelope", "rows answer the current envelope", _current)

CHECKS: dict[str, list[Check]] = {
    "encoded_problems": [Check("round_trip", "decode(encode(x)) = x and the penalty is not refuted", _round_trips)],
    "quantum_samples": [
        Check("energies", "each sample's energy, recomputed from the program, is as reported", _energies),
        _EVIDENCE,
        _CURRENT,
    ],
    "scored_candidates": [_VALUES, _EVIDENCE, _CURRENT],
    "baseline_runs": [
        _VALUES,
        Check("bounds", "no feasible solution is better than a proven bound", _bounds),
    ],
    "baseline_comparisons": [
        Check("no_surrogate", "a surrogate never fills best_quantum", _no_surrogate),
        _CURRENT,
    ],
    "decisions": [
        Check("accepted_is_feasible", "accepted answers are feasible", _accepted_feasible),
        _VALUES,
        _CURRENT,
    ],
}
