"""Rounds of quantum jobs: model → narrow → encode → envelope → samples → candidates, repeated where a family refines.

Here: the pure steps and the loop that asks the dispatcher. Not here: states of jobs, statistics, storage. A round's
decode layout is that of round 0: ``refine`` may change a program's objective, never its variables or constraints.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid_assets import registry
from hybrid_assets.encodings.base import EncodedProblem
from hybrid_assets.encodings.narrowing import Narrowed, narrow
from hybrid_assets.problems.base import Instance, ProblemFamily, Program, Reference, Solution
from hybrid_assets.request import Resolved
from resources.envelope import Algorithm, JobEnvelope, JobResult, SampleCount, TimeoutBudget
from resources.failures import InputError

#: The encoding used where the request names none.
ENCODING = "penalty"


@dataclass(frozen=True)
class Prepared:
    """A program made ready: narrowed to the qubit budget and encoded."""

    program: Program
    narrowed: Narrowed
    encoded: EncodedProblem


def prepare(family: ProblemFamily, instance: Instance, max_variables: int, seed: int) -> Prepared:
    """Model an instance, narrow it to at most ``max_variables`` variables, encode it.

    Raises:
        InputError: the instance's program cannot be encoded.
    """
    program = family.model(instance)
    if len(program.cqm.variables) > max_variables:
        reference = family.reference(instance, program, seed)
    else:
        everything = np.zeros(len(program.cqm.variables))
        reference = Reference(everything.astype(np.int8), everything, "not narrowed")
    return _encode(program, narrow(program, reference, max_variables))


def again(program: Program, kept: np.ndarray, fixed: np.ndarray) -> Prepared:
    """Encode a program with a narrowing that was decided before.

    Args:
        kept: int64 array of shape ``(q,)``, original variables that stay free.
        fixed: int8 array of shape ``(n,)``, values of the others.
    """
    priority = np.zeros(len(fixed))
    priority[kept] = 1.0
    return _encode(program, narrow(program, Reference(fixed, priority, "as decided before"), len(kept)))


def _encode(program: Program, narrowed: Narrowed) -> Prepared:
    encoding = registry.encoding(ENCODING)
    if not encoding.accepts(narrowed.program):
        raise InputError(
            program.form,
            "constraints",
            f"encoding {ENCODING} cannot express them",
            "use linear constraints with integer coefficients",
        )
    return Prepared(program, narrowed, encoding.encode(narrowed.program))


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
) -> JobEnvelope:
    """The envelope of one round.

    Args:
        key: the instance's partition key.
        jobs: jobs that share the quantum side's budget and cost ceiling; each gets an equal part.
        parent: digest of the envelope of the round before.
    """
    execution = resolved.budget / jobs
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
        algorithm=algorithm.model_copy(
            update={
                "depth": resolved.depth,
                "shots": resolved.shots,
                "seed": (resolved.seed + 1009 * repetition + round_) % 2**32,
            }
        ),
        expected_shape=(resolved.shots, variables),
        timeout=TimeoutBudget(queue=resolved.queue, execution=execution, total=resolved.queue + execution),
        fallback=resolved.fallback,
        priority=resolved.priority,
        sensitivity=resolved.sensitivity,
        cost_ceiling=None if resolved.cost_ceiling is None else resolved.cost_ceiling / jobs,
        impact=resolved.impact,
        policy_version=resolved.policy_version,
        repetition=repetition,
        round=round_,
        parent_digest=parent,
        tags={"environment": environment},
    )


@dataclass(frozen=True)
class RoundResult:
    """One finished job of an instance."""

    envelope: JobEnvelope
    result: JobResult
    prepared: Prepared


@dataclass(frozen=True)
class Candidate:
    """A distinct sample with its completed solution."""

    bits: str
    energy: float
    count: int
    solution: Solution
    round: int
    repetition: int


def candidates_of(
    family: ProblemFamily,
    instance: Instance,
    prepared: Prepared,
    samples: Sequence[SampleCount],
    round_: int = 0,
    repetition: int = 0,
) -> list[Candidate]:
    """Decode, complete and evaluate the best distinct assignments, lowest energy first.

    At most ``family.scored_candidates`` of them; counts of samples that decode to one assignment are added up.
    """
    encoding = registry.encoding(prepared.encoded.encoding)
    distinct: dict[bytes, tuple[SampleCount, np.ndarray, int]] = {}
    for sample in sorted(samples, key=lambda s: (s.energy, s.bits)):
        bits = np.frombuffer(sample.bits.encode(), dtype=np.uint8).astype(np.int8) - 48
        assignment = prepared.narrowed.lift(encoding.decode(prepared.encoded, bits))
        known = distinct.get(assignment.tobytes())
        if known is None and len(distinct) == family.scored_candidates:
            continue
        first, _, count = known or (sample, assignment, 0)
        distinct[assignment.tobytes()] = (first, assignment, count + sample.count)
    return [
        Candidate(first.bits, first.energy, count, family.complete(instance, assignment), round_, repetition)
        for first, assignment, count in distinct.values()
    ]


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
    """
    finished: list[RoundResult] = []
    spent = 0.0
    for repetition in range(repetitions if family.rounds > 1 else 1):
        prepared, parent = first, None
        found: list[Candidate] = []
        for round_ in range(family.rounds):
            if finished and spent >= budget_seconds:
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
            prepared = again(program, first.narrowed.kept, first.narrowed.fixed)
            parent = envelope.digest
    return finished


def random_control(
    family: ProblemFamily, instance: Instance, prepared: Prepared, shots: int, seed: int
) -> list[Candidate]:
    """The control arm: as many uniformly random feasible assignments as shots, in the same narrowed space, through the
    same selection by energy and the same completion."""
    narrowed = prepared.narrowed
    draws = family.random_assignments(instance, shots, seed, free=narrowed.kept, base=narrowed.fixed)
    encoding = registry.encoding(prepared.encoded.encoding)
    bits = np.stack([encoding.embed(prepared.encoded, draw[narrowed.kept]) for draw in draws])
    energies = prepared.encoded.bqm.energies((bits, range(bits.shape[1])))
    seen: dict[str, SampleCount] = {}
    for row, energy in zip(bits, energies, strict=True):
        text = "".join(map(str, row))
        count = seen[text].count + 1 if text in seen else 1
        seen[text] = SampleCount(bits=text, energy=float(energy), count=count)
    return candidates_of(family, instance, prepared, list(seen.values()))


def random_mean(family: ProblemFamily, instance: Instance, prepared: Prepared, seed: int, count: int = 50) -> float:
    """Mean objective of ``count`` uniformly random feasible assignments, completed: the zero of normalized gaps."""
    narrowed = prepared.narrowed
    draws = family.random_assignments(instance, count, seed, free=narrowed.kept, base=narrowed.fixed)
    return float(np.mean([family.complete(instance, draw).evaluation.objective for draw in draws]))


def random_energies(prepared: Prepared, seed: int, count: int = 2000) -> np.ndarray:
    """Energies of uniformly random bits, feasible or not: what the samples' histogram is held against."""
    bits = np.random.default_rng(seed).integers(0, 2, (count, prepared.encoded.bqm.num_variables), dtype=np.int8)
    return np.asarray(prepared.encoded.bqm.energies((bits, range(bits.shape[1]))))
