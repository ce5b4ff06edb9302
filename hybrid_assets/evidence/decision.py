"""The decision: what the platform answers for an instance, and why.

Here: the rule, one sentence of reason and the path that led there. Not here: the comparison's numbers
(``comparison``), or anything that solves.

The rule: the best feasible objective wins. A candidate from the quantum seam is accepted when it is at least as good
as the best classical answer within the tolerance; otherwise the answer falls back to the classical one; with nothing
feasible somebody has to look. Classical are the baselines and the heuristic that ends a fallback chain. The random
control measures, it never answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from hybrid_assets.evidence.comparison import (
    Row,
    best,
    best_baseline,
    fallback_rows,
    number,
    quantum_rows,
    surrogate_rows,
)
from hybrid_assets.evidence.gaps import TOLERANCE, Sense, better, same
from resources.envelope import EvidenceClass, PostProcessing

Verdict = Literal["accepted", "fallback", "review"]
Source = Literal["quantum", "hybrid", "surrogate", "classical", "none"]


def decide(
    comparison: Row,
    candidates: Sequence[Row],
    baselines: Sequence[Row],
    *,
    failure: str | None = None,
    hops: Sequence[str] = (),
    tolerance: float = TOLERANCE,
) -> dict[str, Any]:
    """Columns of ``decisions`` that follow from the evidence.

    Args:
        comparison: the row made by ``compare`` from the same candidates and baselines.
        candidates: rows of ``scored_candidates``. baselines: rows of ``baseline_runs``.
        failure: why the quantum job failed, one clause, when it did.
        hops: earlier steps of the path, e.g. backends that were left and why.
        tolerance: relative; closer objectives are equal (see ``gaps.same``). Use the one given to ``compare``.

    Returns:
        ``decision``, ``reason``, ``path`` (list of sentences), ``source``, ``evidence_class``, ``post_processing``,
        ``solver_or_backend``, ``objective``, ``sense``, ``feasible``, ``values`` (as in the row), ``confidence`` with
        its interval, ``bound`` and ``gap``. ``source`` is ``quantum`` only for bits that were read out and not touched
        (``raw``, not narrowed); anything classical in the candidate makes it ``hybrid``.
    """
    sense: Sense = comparison["sense"]
    proposed = _proposed(candidates, sense, tolerance)
    stood_in = fallback_rows(candidates)
    stand_in, baseline = best(stood_in, sense), best_baseline(baselines, sense)
    classical = _classical(baseline, stand_in, sense, tolerance)
    source = _source(proposed)
    fallback = [
        f"answered by the {name} fallback, " + (f"best {_text(stand_in)}" if stand_in is not None else "none feasible")
        for name in sorted({_who(row) for row in stood_in})
    ]
    missing = "no quantum candidate was feasible"
    if failure is not None:
        missing = f"the quantum job failed ({failure})"
    elif fallback:
        missing = f"the quantum job was {fallback[0]}"
    verdict, reason = _reason(proposed, classical, source, baselines, missing, sense, tolerance)
    answer = {"accepted": proposed, "fallback": classical, "review": None}[verdict]
    if verdict != "accepted":
        source = "classical" if answer is not None else "none"
    gaps: dict[Source, str] = {
        "quantum": "quantum_gap",
        "hybrid": "quantum_gap",
        "surrogate": "surrogate_gap",
        "classical": "classical_gap",
    }
    path = [
        *hops,
        *([f"quantum job: failed, {failure}"] if failure else []),
        *[f"quantum job: {step}" for step in fallback],
        _step("candidates", proposed, f"{len(candidates)} rows"),
        _step("baselines", baseline, f"{len(baselines)} runs"),
        f"compared: winner {comparison['winner']}, reference {comparison['reference_kind']}, "
        f"relative tolerance {tolerance:g}",
        f"decision: {verdict}, source {source}",
    ]
    record: dict[str, Any] = {
        "decision": verdict,
        "reason": reason,
        "path": path,
        "source": source,
        "evidence_class": "none",
        "post_processing": "raw",
        "solver_or_backend": "none",
        "objective": None,
        "sense": sense,
        "feasible": answer is not None,
        "values": None,
        "confidence": None,
        "confidence_low": None,
        "confidence_high": None,
        "bound": number(comparison["bound"]),
        "gap": number(comparison[gaps[source]]) if source in gaps else None,
    }
    if answer is not None:
        record |= {
            "evidence_class": str(answer["evidence_class"]),
            "solver_or_backend": _who(answer),
            "objective": float(answer["objective"]),
            "values": answer["values"],
        }
    if answer is not None and "arm" in answer:
        record |= {key: answer[key] for key in ("confidence", "confidence_low", "confidence_high")}
        record["post_processing"] = str(answer["post_processing"])
        if answer["arm"] == "fallback":
            # the classical gap is that of the baselines, which it beats
            found = comparison["reference_kind"] == "best found"
            record["gap"] = 0.0 if found and float(answer["objective"]) == comparison["reference"] else None
    return record


def _classical(baseline: Row | None, stand_in: Row | None, sense: Sense, tolerance: float) -> Row | None:
    """The better classical answer; of equals the baseline, which may have a proof."""
    if baseline is None or stand_in is None:
        return baseline or stand_in
    beaten = better(float(stand_in["objective"]), float(baseline["objective"]), sense, tolerance)
    return stand_in if beaten else baseline


def _proposed(candidates: Sequence[Row], sense: Sense, tolerance: float) -> Row | None:
    """The best candidate of the quantum seam; of equals an untouched quantum one, then any quantum one."""
    quantum, surrogate = quantum_rows(candidates), surrogate_rows(candidates)
    top = best([*quantum, *surrogate], sense)
    if top is None:
        return None
    equals = [
        r
        for r in [*quantum, *surrogate]
        if r["feasible"] and same(float(r["objective"]), float(top["objective"]), tolerance)
    ]
    rank: dict[Source, int] = {"quantum": 0, "hybrid": 1, "surrogate": 2}
    return min(equals, key=lambda r: rank[_source(r)])


def _source(candidate: Row | None) -> Source:
    if candidate is None:
        return "none"
    if candidate["evidence_class"] == EvidenceClass.SURROGATE:
        return "surrogate"
    # a shot that was kept is as it was read out
    untouched = candidate["post_processing"] in (PostProcessing.RAW, PostProcessing.POSTSELECTED)
    return "quantum" if untouched and not candidate["narrowed"] else "hybrid"


def _reason(
    proposed: Row | None,
    classical: Row | None,
    source: Source,
    baselines: Sequence[Row],
    missing: str,
    sense: Sense,
    tolerance: float,
) -> tuple[Verdict, str]:
    """The verdict and one sentence for it."""
    label = {"quantum": "quantum", "hybrid": "hybrid quantum-classical", "surrogate": "surrogate (classical sampler)"}
    if proposed is None:
        if classical is not None:
            return "fallback", f"{missing}, so the answer is the classical one: {_text(classical)}."
        refuted = next((str(r["solver"]) for r in baselines if r["status"] == "infeasible"), None)
        why = f"{refuted} proved that there is none" if refuted else "nobody found a feasible answer"
        return "review", f"There is no answer to give: {missing} and {why}."
    if classical is None:
        return "accepted", f"The {label[source]} candidate is the only feasible answer: {_text(proposed)}."
    mine, theirs = float(proposed["objective"]), float(classical["objective"])
    if better(theirs, mine, sense, tolerance):
        return "fallback", f"Classical wins: {_text(classical)} against {_text(proposed)}."
    proof = " and proves it optimal" if classical.get("status") == "optimal" else ""
    if same(mine, theirs, tolerance):
        return "accepted", (
            f"Tie: the {label[source]} candidate of {_who(proposed)} has the same objective {mine:.10g} as "
            f"{_who(classical)} finds{proof}."
        )
    return "accepted", f"The {label[source]} candidate wins: {_text(proposed)} against {_text(classical)}."


def _step(name: str, row: Row | None, size: str) -> str:
    return f"{name}: {size}, " + (f"best {_text(row)}" if row is not None else "none feasible")


def _text(row: Row) -> str:
    return f"{_who(row)} with {float(row['objective']):.10g}"


def _who(row: Row) -> str:
    """Solver of a baseline, backend of a candidate."""
    return str(row["solver"] if "solver" in row else row["backend"])
