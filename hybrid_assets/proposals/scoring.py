"""Scored candidates: from stored samples to rows in business terms, with the random control beside them.

Here: the pure step of stage 6. Not here: the formulas of confidence (``evidence.confidence``).
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from hybrid_assets.evidence.confidence import confidence
from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.proposals.prepared import Prepared
from hybrid_assets.proposals.rounds import Candidate, best_first, candidates_of, random_control
from hybrid_assets.proposals.trips import Walking, random_walk, walked
from resources.envelope import EvidenceClass, PostProcessing, SampleCount
from resources.failures import InputError

#: Candidates within this share of the best objective's size count as reaching it again.
RELATIVE_TOLERANCE = 1e-6
#: Rows kept per arm and round.
TOP = 20
#: Which evidence classes count for which arm.
ARMS = {
    "quantum": tuple(str(c) for c in EvidenceClass if c.is_quantum),
    "surrogate": (str(EvidenceClass.SURROGATE),),
    "fallback": (str(EvidenceClass.CLASSICAL),),
}


def score(
    family: ProblemFamily,
    instance: Instance,
    prepared: Prepared,
    samples: pd.DataFrame,
    run_energies: dict[str, Sequence[float]],
    key: str,
    seed: int,
    walking: Walking | None = None,
    tuning: Mapping[str, int] | None = None,
    selected: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """Rows of ``scored_candidates`` for one instance.

    Args:
        samples: its rows of ``quantum_samples``.
        walking: the walk at its first trip, for an instance that is larger than the device.
        run_energies: by job id, the best energy of each independent run of a trained algorithm (empty otherwise).
        tuning: by job id, shots spent on choosing parameters; the control draws as many more.
        selected: by id of a post-selected job, the shots that it dropped. They are charged: a confidence counts them as
            misses and the control draws as many more.

    Returns:
        the rows, best first within arm and round.

    Raises:
        InputError: neither the samples nor the control have proposed anything.
    """
    rows: list[dict[str, Any]] = []
    tuning, selected = tuning or {}, selected or {}
    iterative = samples["repetition"].nunique() > 1
    started = time.perf_counter()
    by_job = {
        str(job_id): [
            SampleCount(bits=b, energy=e, count=n)
            for b, e, n in mine[["bits", "energy", "count"]].itertuples(index=False)
        ]
        for job_id, mine in samples.groupby("job_id", sort=False)
    }
    jobs = samples.drop_duplicates("job_id").sort_values(["repetition", "round"])
    if walking is not None:
        trips = zip(jobs["job_id"], jobs["evidence_class"], strict=True)
        everything = walked(walking, [(by_job[job_id], EvidenceClass(evidence)) for job_id, evidence in trips])
    else:
        everything = [
            candidate
            for job in jobs.to_dict("records")
            for candidate in candidates_of(
                family, instance, prepared, by_job[job["job_id"]], int(job["round"]), int(job["repetition"])
            )
        ]
    completion = time.perf_counter() - started
    sampling = float(jobs["seconds"].sum())
    # a later round or repetition may have been answered elsewhere: every candidate keeps its own job's evidence
    job_of = {(row["round"], row["repetition"]): row for row in jobs.to_dict("records")}
    for round_ in sorted(set(jobs["round"])):
        for arm, classes in ARMS.items():
            found = [
                c for c in everything if c.round == round_ and _answered_by(job_of, c)["evidence_class"] in classes
            ]
            runs = [
                energy
                for row in job_of.values()
                if row["round"] == round_ and row["evidence_class"] in classes
                for energy in run_energies.get(row["job_id"], ())
            ]
            for rank, candidate in enumerate(_distinct(instance, found)[:TOP], start=1):
                job, answered = job_of[candidate.round, candidate.repetition], _answered_by(job_of, candidate)
                tolerance = RELATIVE_TOLERANCE * max(1e-12, abs(candidate.solution.evaluation.objective))
                if iterative:
                    # whole runs: in how many did some round reach an objective as good
                    unit, trials = "runs", samples["repetition"].nunique()
                    hits = len({c.repetition for c in everything if _as_good(instance, c, candidate, tolerance)})
                elif runs:
                    unit, trials = "runs", len(runs)
                    hits = sum(e <= candidate.energy + 1e-9 * max(1.0, abs(candidate.energy)) for e in runs)
                else:
                    unit, trials = "shots", int(job["shots"]) + selected.get(job["job_id"], 0)
                    hits = sum(c.count for c in found if _as_good(instance, c, candidate, tolerance))
                row = _row(
                    family, instance, candidate, key, arm, rank, int(job["shots"]), tolerance, unit, hits, trials
                )
                if job["job_id"] in selected and row["post_processing"] == PostProcessing.RAW:
                    row["post_processing"] = str(PostProcessing.POSTSELECTED)
                rows.append(
                    row
                    | {
                        "evidence_class": answered["evidence_class"],
                        "backend": answered["backend"],
                        "seconds": sampling + completion,
                        "narrowed": prepared.partial,
                    }
                )
    started = time.perf_counter()
    charged = [
        int(shots) + tuning.get(str(job_id), 0) + selected.get(str(job_id), 0)
        for job_id, shots in jobs[["job_id", "shots"]].itertuples(index=False)
    ]
    draws = sum(charged)
    if walking is not None:
        control = random_walk(walking, charged, seed)
    else:
        control = random_control(family, instance, prepared, draws, seed)
    spent = time.perf_counter() - started
    for round_ in sorted({c.round for c in control}):
        found = [c for c in control if c.round == round_]
        shots = charged[round_] if walking is not None else draws
        for rank, candidate in enumerate(_distinct(instance, found)[:TOP], start=1):
            tolerance = RELATIVE_TOLERANCE * max(1e-12, abs(candidate.solution.evaluation.objective))
            hits = sum(c.count for c in found if _as_good(instance, c, candidate, tolerance))
            rows.append(
                _row(family, instance, candidate, key, "random_control", rank, shots, tolerance, "shots", hits, shots)
                | {
                    "evidence_class": "classical",
                    "backend": "uniform random",
                    "seconds": spent,
                    "narrowed": prepared.partial,
                }
            )
    if not rows:
        raise InputError(
            instance.name, "shots", "no read-out of any trip changes anything", "ask for more shots or more trips"
        )
    return rows


def _answered_by(job_of: Mapping[tuple[int, int], Mapping[Any, Any]], candidate: Candidate) -> Mapping[Any, Any]:
    """The job whose evidence the candidate has: its own, or the last before it with the weaker class."""
    jobs = [job_of[round_, candidate.repetition] for round_ in range(candidate.round, -1, -1)]
    evidence = candidate.evidence or jobs[0]["evidence_class"]
    return next(job for job in jobs if job["evidence_class"] == evidence)


def _distinct(instance: Instance, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Best first, one candidate per solution, the counts of equal ones added up."""
    merged: dict[bytes, Candidate] = {}
    for candidate in best_first(instance, candidates):
        token = np.round(candidate.solution.values, 9).tobytes()
        known = merged.get(token)
        merged[token] = candidate if known is None else replace(known, count=known.count + candidate.count)
    return list(merged.values())


def _as_good(instance: Instance, other: Candidate, candidate: Candidate, tolerance: float) -> bool:
    """Whether ``other`` is feasible where ``candidate`` is and at least as good within the tolerance."""
    if candidate.solution.evaluation.feasible and not other.solution.evaluation.feasible:
        return False
    sign = -1.0 if instance.sense == "max" else 1.0
    difference = sign * (other.solution.evaluation.objective - candidate.solution.evaluation.objective)
    return bool(difference <= tolerance)


def _row(
    family: ProblemFamily,
    instance: Instance,
    candidate: Candidate,
    key: str,
    arm: str,
    rank: int,
    shots: int,
    tolerance: float,
    unit: str,
    hits: int,
    trials: int,
) -> dict[str, Any]:
    again = confidence(hits, trials)
    return {
        "instance": key,
        "family": family.name,
        "arm": arm,
        "round": candidate.round,
        "rank": rank,
        "values": json.dumps(candidate.solution.values.tolist()),
        "objective": candidate.solution.evaluation.objective,
        "feasible": candidate.solution.evaluation.feasible,
        "violations": json.dumps(dict(candidate.solution.evaluation.violations)),
        "count": candidate.count,
        "shots": shots,
        "tolerance": tolerance,
        "hits": hits,
        "p": again.p,
        "p_low": again.p_low,
        "p_high": again.p_high,
        "confidence": again.confidence,
        "confidence_low": again.confidence_low,
        "confidence_high": again.confidence_high,
        "confidence_unit": unit,
        "post_processing": str(candidate.solution.post_processing),
        "feasible_mass": candidate.shares.feasible_mass,
        "leakage": candidate.shares.leakage,
    }
