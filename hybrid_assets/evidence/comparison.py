"""Quantum, surrogate, random and classical side by side: the row of ``baseline_comparisons``.

Here: who counts on which side and what the reference is. Not here: formulas (``gaps``) or what follows from the row
(``decision``). Rows are plain mappings with the columns of ``scored_candidates`` and ``baseline_runs``; NaN is null.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from hybrid_assets.evidence.gaps import DEFINITION, TOLERANCE, GapKind, Sense, better, gap, lift, loss, same, winner
from resources.envelope import EvidenceClass

Row = Mapping[str, Any]
ReferenceKind = Literal["best known", "proven", "best found"]


def compare(
    *,
    instance: str,
    family: str,
    envelope_digest: str,
    sense: Sense,
    candidates: Sequence[Row],
    baselines: Sequence[Row],
    random_mean: float | None,
    best_known: float | None,
    budget_seconds: float,
    gap_kind: GapKind = "relative",
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """One row of ``baseline_comparisons``, without ``data_version``.

    Infeasible rows never count. Only rows of the arm ``quantum`` with a quantum evidence class fill ``best_quantum``;
    surrogates have a column of their own and no lift. What a heuristic answered in the place of a quantum job counts
    for the best found objective and nothing else.

    Args:
        candidates: rows of ``scored_candidates``. baselines: rows of ``baseline_runs``.
        random_mean: mean objective of all random draws, also of those that are not among ``candidates``.
        best_known: as given by the user; used here and nowhere before.
        budget_seconds: what either side was given.
        gap_kind: formula of the gaps; ``normalized`` for families whose objective crosses zero.
        tolerance: relative; closer objectives are a tie.
    """
    quantum = best(quantum_rows(candidates), sense)
    raw = best((row for row in quantum_rows(candidates) if row["post_processing"] == "raw"), sense)
    surrogate = best(surrogate_rows(candidates), sense)
    random = best((row for row in candidates if row["arm"] == "random_control"), sense)
    classical = best_baseline(baselines, sense)
    found = [value_of(row) for row in (quantum, surrogate, random, classical)]
    bounds = [b for b in (number(row["bound"]) for row in baselines) if b is not None]
    fallback = value_of(best(fallback_rows(candidates), sense))
    reference, kind = reference_of([*found, fallback], baselines, best_known, sense, tolerance)
    gaps = [gap(value, reference, sense, gap_kind, random_mean) for value in found]
    return {
        "instance": instance,
        "family": family,
        "envelope_digest": envelope_digest,
        "sense": sense,
        "best_quantum": found[0],
        "best_quantum_raw": value_of(raw),
        "quantum_backend": str(quantum["backend"]) if quantum else None,
        "quantum_evidence_class": str(quantum["evidence_class"]) if quantum else None,
        "best_surrogate": found[1],
        "best_random": found[2],
        "random_mean": random_mean,
        "best_classical": found[3],
        "best_classical_solver": str(classical["solver"]) if classical else None,
        "bound": (min if sense == "max" else max)(bounds, default=None),
        "best_known": best_known,
        "reference": reference,
        "reference_kind": kind,
        "quantum_gap": gaps[0],
        "surrogate_gap": gaps[1],
        "random_gap": gaps[2],
        "classical_gap": gaps[3],
        "gap_definition": DEFINITION[gap_kind],
        "quantum_lift": lift(gaps[0], gaps[2]),
        "winner": winner(found[0], found[3], sense, tolerance),
        "quantum_seconds": max(
            (float(r["seconds"]) for r in candidates if r["arm"] in ("quantum", "surrogate")), default=0.0
        ),
        "classical_seconds": float(classical["seconds"]) if classical else 0.0,
        "budget_seconds": budget_seconds,
    }


def reference_of(
    found: Sequence[float | None],
    baselines: Sequence[Row],
    best_known: float | None,
    sense: Sense,
    tolerance: float = TOLERANCE,
) -> tuple[float | None, ReferenceKind]:
    """What gaps are measured against, and what it is.

    A proven optimum, called ``best known`` when the best known value equals it; without a proof the best known value;
    without either the best objective found by any arm. A best known value that contradicts a proof is not used, and
    something better that was found replaces both (``best found``): best known values go out of date and proofs rest on
    tolerances. A bound is never a reference unless its solver closed it.
    """
    best_found = (max if sense == "max" else min)((v for v in found if v is not None), default=None)
    optimum = value_of(best((r for r in baselines if r["status"] == "optimal"), sense))
    reference: float | None = optimum
    kind: ReferenceKind = "proven"
    if best_known is not None and (optimum is None or same(best_known, optimum, tolerance)):
        reference, kind = best_known, "best known"
    if reference is None or (best_found is not None and better(best_found, reference, sense, tolerance)):
        return best_found, "best found"
    return reference, kind


def quantum_rows(candidates: Iterable[Row]) -> list[Row]:
    """Candidates that may count as quantum."""
    return [r for r in candidates if r["arm"] == "quantum" and EvidenceClass(r["evidence_class"]).is_quantum]


def surrogate_rows(candidates: Iterable[Row]) -> list[Row]:
    """Candidates of classical samplers behind the quantum seam."""
    return [r for r in candidates if r["arm"] != "random_control" and r["evidence_class"] == EvidenceClass.SURROGATE]


def fallback_rows(candidates: Iterable[Row]) -> list[Row]:
    """What a classical heuristic answered in the place of a quantum job."""
    return [r for r in candidates if r["arm"] == "fallback"]


def best(rows: Iterable[Row], sense: Sense) -> Row | None:
    """The best feasible row with an objective; the first of equals."""
    return min(
        (r for r in rows if r["feasible"] and value_of(r) is not None),
        key=lambda r: loss(r["objective"], 0.0, sense),
        default=None,
    )


def best_baseline(baselines: Iterable[Row], sense: Sense) -> Row | None:
    """The best feasible baseline; of equals one with a proof, then the fastest."""
    return best(sorted(baselines, key=lambda r: (r["status"] != "optimal", r["seconds"])), sense)


def value_of(row: Row | None) -> float | None:
    """A row's objective, ``None`` when there is none."""
    return None if row is None else number(row["objective"])


def number(cell: Any) -> float | None:
    """A float, ``None`` for a null of either kind."""
    return None if cell is None or math.isnan(cell) else float(cell)
