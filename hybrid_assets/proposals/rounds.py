"""Rounds of quantum jobs: envelope → samples → candidates, repeated where a family refines.

Here: the pure steps and the loop that asks the dispatcher. Not here: what is encoded (``prepared``), walks of instances
that are larger than the device (``trips``), states of jobs, statistics, storage. A round's decode layout is that of
round 0: ``refine`` may change a program's objective, never its variables or constraints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.samples import Shares, shares
from hybrid_assets.problems.base import Instance, ProblemFamily, Solution
from hybrid_assets.problems.landscape import random_bits
from hybrid_assets.proposals.prepared import Prepared, again
from hybrid_assets.request import Resolved
from resources.circuits.mitigation import SYMMETRY_TAG
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope, JobResult, SampleCount, TimeoutBudget


def envelope_for(
    *,
    instance: Instance,
    key: str,
    resolved: Resolved,
    prepared: Prepared,
    payload_ref: str,
    correlation_id: str,
    algorithm: Algorithm,
    jobs: int,
    environment: str,
    round_: int = 0,
    repetition: int = 0,
    parent: str | None = None,
    walks: bool = False,
    ramp_lengths: tuple[float, ...] | None = None,
) -> JobEnvelope:
    """The envelope of one round.

    Args:
        key: the instance's partition key.
        jobs: jobs that share the quantum side's budget, cost ceiling and approval; each gets an equal part.
        parent: digest of the envelope of the round before.
        walks: whether it is a trip of a walk, which ends when its trips have used the budget up: each may take what is
            left, so all of it.
        ramp_lengths: the grid to choose from, if not the algorithm's.
    """
    execution = resolved.budget if walks else resolved.budget / jobs
    variables = prepared.encoded.bqm.num_variables
    return JobEnvelope(
        correlation_id=correlation_id,
        purpose="propose candidates",
        owner=resolved.owner,
        problem_type=instance.family,
        instance=key,
        input_digest=instance.digest,
        encoding=prepared.encoded.encoding,
        encoding_digest=prepared.encoded.digest,
        payload_ref=payload_ref,
        payload_variables=variables,
        backend=resolved.backend,
        device=resolved.device,
        algorithm=algorithm.model_copy(
            update={
                "depth": resolved.depth,
                "shots": resolved.shots,
                "seed": (resolved.seed + 1009 * repetition + round_) % 2**32,
                "groups": tuple(tuple(group) for group in prepared.encoded.detail.get("groups", ())),
                **({"ramp_lengths": ramp_lengths} if ramp_lengths else {}),
                **({"compilation": resolved.compilation} if resolved.compilation else {}),
                **({"mitigation": resolved.mitigation} if resolved.mitigation else {}),
                # a small sub-program's schedule needs no more shots than its answer
                **({"tuning_shots": min(algorithm.tuning_shots, max(10, resolved.shots))} if walks else {}),
            }
        ),
        expected_shape=(resolved.shots, variables),
        timeout=TimeoutBudget(queue=resolved.queue, execution=execution, total=resolved.queue + execution),
        fallback=resolved.fallback,
        priority=resolved.priority,
        sensitivity=resolved.sensitivity,
        cost_ceiling=None if resolved.cost_ceiling is None else resolved.cost_ceiling / jobs,
        impact=resolved.impact,
        jobs=jobs,
        policy_version=resolved.policy_version,
        repetition=repetition,
        round=round_,
        parent_digest=parent,
        tags={"environment": environment} | ({SYMMETRY_TAG: resolved.symmetry} if resolved.symmetry else {}),
    )


@dataclass(frozen=True)
class RoundResult:
    """One finished job of an instance."""

    envelope: JobEnvelope
    result: JobResult
    prepared: Prepared


@dataclass(frozen=True)
class Candidate:
    """A distinct sample with its completed solution, and what all raw shots of its job are like.

    ``evidence`` is given where it is not simply that of its job.
    """

    bits: str
    energy: float
    count: int
    solution: Solution
    round: int
    repetition: int
    shares: Shares
    evidence: EvidenceClass | None = None


def candidates_of(
    family: ProblemFamily,
    instance: Instance,
    prepared: Prepared,
    samples: Sequence[SampleCount],
    round_: int = 0,
    repetition: int = 0,
    limit: int | None = None,
) -> list[Candidate]:
    """Decode, complete and evaluate the best distinct assignments, lowest energy first.

    At most ``limit`` of them (default ``family.scored_candidates``); counts of samples that decode to one assignment
    are added up.
    """
    limit = limit or family.scored_candidates
    encoding = registry.encoding(prepared.encoded.encoding)
    bits, counts = bits_of(samples), np.array([sample.count for sample in samples])
    found = shares(encoding, prepared.narrowed.program, prepared.encoded, bits, counts)
    distinct: dict[bytes, tuple[SampleCount, np.ndarray, int]] = {}
    for k in sorted(range(len(samples)), key=lambda k: (samples[k].energy, samples[k].bits)):
        sample, assignment = samples[k], encoding.decode(prepared.encoded, bits[k])
        known = distinct.get(assignment.tobytes())
        if known is None and len(distinct) == limit:
            continue
        first, _, count = known or (sample, assignment, 0)
        distinct[assignment.tobytes()] = (first, assignment, count + sample.count)
    return [
        Candidate(
            first.bits,
            first.energy,
            count,
            prepared.solution(family, instance, assignment),
            round_,
            repetition,
            found,
        )
        for first, assignment, count in distinct.values()
    ]


def bits_of(samples: Sequence[SampleCount]) -> np.ndarray:
    """Distinct read-outs as rows: int8, shape ``(m, q)``."""
    text = "".join(sample.bits for sample in samples).encode()
    return np.frombuffer(text, dtype=np.uint8).astype(np.int8).reshape(len(samples), -1) - 48


def best_first(instance: Instance, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Feasible candidates before others, best objective first; ties by energy and bits, so that order is stable."""
    sign = -1.0 if instance.sense == "max" else 1.0
    return sorted(
        candidates,
        key=lambda c: (not c.solution.evaluation.feasible, sign * c.solution.evaluation.objective, c.energy, c.bits),
    )


def run_rounds(
    family: ProblemFamily,
    instance: Instance,
    first: Prepared,
    make: Callable[..., JobEnvelope],
    run: Callable[[JobEnvelope], JobResult | None],
    store: Callable[[bytes], str],
    repetitions: int,
    budget_seconds: float,
    ended: int = 0,
) -> list[RoundResult] | None:
    """All rounds of all whole runs of an instance, or ``None`` while one of them is pending.

    Every step is found again by its envelope's idempotency key, so the loop can be repeated at any time.

    Args:
        make: ``envelope_for`` with everything bound but ``prepared``, ``payload_ref``, ``round_``, ``repetition``
            and ``parent``.
        run: sends an envelope and answers its result, or ``None`` while pending.
        store: keeps a payload and answers its reference.
        repetitions: whole runs; more than one only for families with several rounds.
        budget_seconds: no further job is begun when the jobs so far took longer.
        ended: after how many jobs the same rounds ended before; they do so again, whatever the clock says now.
    """
    finished: list[RoundResult] = []
    spent = 0.0
    for repetition in range(repetitions if family.rounds > 1 else 1):
        prepared, parent = first, None
        found: list[Candidate] = []
        for round_ in range(family.rounds):
            if len(finished) == ended if ended else finished and spent >= budget_seconds:
                return finished
            started = time.perf_counter()
            envelope = make(
                prepared=prepared,
                payload_ref=store(prepared.encoded.payload()),
                round_=round_,
                repetition=repetition,
                parent=parent,
            )
            result = run(envelope)
            if result is None:
                return None
            finished.append(RoundResult(envelope, result, prepared))
            found += candidates_of(family, instance, prepared, result.samples, round_, repetition)
            spent += max(result.timings.total, time.perf_counter() - started)
            ranked = [c.solution for c in best_first(instance, found)]
            program = family.refine(instance, round_ + 1, ranked) if round_ + 1 < family.rounds else None
            if program is None:
                break
            prepared = again(program, first.narrowed.kept, first.narrowed.fixed, first.encoded.encoding)
            parent = envelope.digest
    return finished


def random_control(
    family: ProblemFamily, instance: Instance, prepared: Prepared, shots: int, seed: int
) -> list[Candidate]:
    """The control arm: as many uniformly random feasible assignments as shots, in the same narrowed space, through the
    same selection by energy and the same completion."""
    draws = _drawn(family, instance, prepared, shots, seed)
    return candidates_of(family, instance, prepared, counted(prepared, draws[:, prepared.narrowed.kept]))


def _drawn(family: ProblemFamily, instance: Instance, prepared: Prepared, count: int, seed: int) -> np.ndarray:
    """Random feasible assignments in the narrowed space; a program that is whole has no base to keep to."""
    narrowed = prepared.narrowed
    space = {"free": narrowed.kept, "base": narrowed.fixed} if narrowed.narrowed else {}
    return family.random_assignments(instance, count, seed, **space)


def counted(prepared: Prepared, assignments: np.ndarray) -> list[SampleCount]:
    """Assignments of the encoded program (int8, shape ``(m, q)``) as if they had been read out."""
    encoding = registry.encoding(prepared.encoded.encoding)
    bits = np.stack([encoding.embed(prepared.encoded, assignment) for assignment in assignments])
    energies = prepared.encoded.bqm.energies((bits, range(bits.shape[1])))
    seen: dict[str, SampleCount] = {}
    for row, energy in zip(bits, energies, strict=True):
        text = "".join(map(str, row))
        count = seen[text].count + 1 if text in seen else 1
        seen[text] = SampleCount(bits=text, energy=float(energy), count=count)
    return list(seen.values())


def random_mean(family: ProblemFamily, instance: Instance, prepared: Prepared, seed: int, count: int = 50) -> float:
    """Mean objective of ``count`` uniformly random feasible assignments, completed: the zero of normalized gaps.

    Of a walk's first trip: of random answers to its blocks.
    """
    if prepared.leg is not None:
        rng = np.random.default_rng(seed)
        drawn = np.hstack([random_bits(block, count, rng) for block in prepared.leg.blocks])
        return float(np.mean([prepared.solution(family, instance, row).evaluation.objective for row in drawn]))
    draws = _drawn(family, instance, prepared, count, seed)
    return float(np.mean([family.complete(instance, draw).evaluation.objective for draw in draws]))


def random_energies(prepared: Prepared, seed: int, count: int = 2000) -> np.ndarray:
    """Energies of uniformly random bits, feasible or not: what the samples' histogram is held against."""
    bits = np.random.default_rng(seed).integers(0, 2, (count, prepared.encoded.bqm.num_variables), dtype=np.int8)
    return np.asarray(prepared.encoded.bqm.energies((bits, range(bits.shape[1]))))
