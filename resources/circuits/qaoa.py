"""The QAOA loop over any compiled template: choose a ramp, perhaps train it, read out.

Here: how angles are chosen within a budget of circuits, shots and seconds, and what is charged for it. Not here:
circuits (``templates``), schedules (``schedules``) or job documents (``backends``). Angles are chosen by the CVaR of
sampled energies alone: no exact expectation, no argmin, no best known value.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.circuits.checkpoint import Checkpoint, Scores
from resources.circuits.ising import Ising
from resources.circuits.library import Features, lookup
from resources.circuits.mitigation import nearest_probabilities
from resources.circuits.schedules import MIXER_RAMP, cvar, linear_ramp
from resources.circuits.templates import Template

if TYPE_CHECKING:
    import dimod

    from resources.envelope import Algorithm

#: Independent whole runs (ramp choice, training, read-out) of ``qaoa-trained``; the final shots are split among them.
WHOLE_RUNS = 5
#: Stored schedules that ``qaoa-library`` tries beside the ramps: the nearest ones.
STORED = 3
#: A CVaR is the mean of at least so many shots.
LEAST_TAIL = 10

_SEED_LIMIT = 2**31 - 1
#: Start and end of the phase ramp and of the mixer ramp, in units of their heights.
_PLAIN_RAMP = np.array([0.0, 1.0, 1.0, 0.0])


@dataclass(frozen=True)
class Readout:
    """What a QAOA job measured and spent.

    Attributes:
        bits: final read-outs, int8, shape ``(shots, n)``, variable 0 first.
        tuning_shots: shots spent on choosing and training angles.
        circuits: circuits run in all.
        parameters: chosen angles and the evidence for the choice, JSON-able.
        run_energies: best raw energy of each independent whole run; empty for a single run.
    """

    bits: np.ndarray
    tuning_shots: int
    circuits: int
    parameters: dict[str, Any]
    run_energies: tuple[float, ...] = ()


@dataclass(frozen=True)
class Angles:
    """Angles to sample and what their choice cost.

    Attributes:
        gammas, betas: shape ``(depth,)``; γ in units of 1/√(Σh²+ΣJ²), β in radians.
        record: the evidence for the choice, JSON-able.
        shots, circuits: spent on the choice.
    """

    gammas: np.ndarray
    betas: np.ndarray
    record: dict[str, Any]
    shots: int = 0
    circuits: int = 0


class _OutOfTime(Exception):
    """Ends a training whose time is up."""


@dataclass
class _Meter:
    """Runs circuits and counts them: every shot taken is charged, and a clock says when to stop.

    What an interrupted attempt has measured (``checkpoint``) is taken from there. Its shots, circuits and seconds count
    as if this attempt had spent them.
    """

    payload: dimod.BinaryQuadraticModel
    ising: Ising
    template: Template
    confusion: np.ndarray | None = None
    checkpoint: Checkpoint | None = None
    shots: int = 0
    circuits: int = 0
    slowest: float = field(default=0.0, init=False)
    resumed: dict[str, float] = field(default_factory=dict, init=False)

    def sample(self, gammas: np.ndarray, betas: np.ndarray, shots: int, rng: np.random.Generator) -> np.ndarray:
        """Bits, shape ``(k, shots, n)``, for ``k`` schedules."""
        return self._run(gammas, betas, shots, int(rng.integers(_SEED_LIMIT)))

    def _run(self, gammas: np.ndarray, betas: np.ndarray, shots: int, seed: int) -> np.ndarray:
        started = time.perf_counter()
        angles = self.ising.angles(np.atleast_2d(gammas), np.atleast_2d(betas))
        bits = self.template.sample(angles, shots, seed)
        self._charge(len(angles), shots, time.perf_counter() - started)
        return bits

    def _charge(self, circuits: int, shots: int, seconds: float) -> None:
        self.slowest = max(self.slowest, seconds / circuits)
        self.shots += shots * circuits
        self.circuits += circuits

    def scores(self, gammas: np.ndarray, betas: np.ndarray, algorithm: Algorithm, rng: np.random.Generator) -> Scores:
        """Sampled CVaR and mean of each schedule, to be minimized in this order.

        On small problems several schedules reach the same CVaR (all of the best α·N shots are equal); the mean decides.
        """
        seed, shots = int(rng.integers(_SEED_LIMIT)), algorithm.tuning_shots
        key = Checkpoint.key(gammas, betas, seed)
        known = self.checkpoint.evaluations.get(key) if self.checkpoint else None
        if known is not None:
            scores, seconds = known
            self._charge(len(scores), shots, seconds)
            spent = {"circuits": len(scores), "shots": len(scores) * shots, "seconds": seconds}
            self.resumed = {name: self.resumed.get(name, 0) + amount for name, amount in spent.items()}
            return scores
        started = time.perf_counter()
        alpha = tail_shots(algorithm) / shots
        scores = [self._judged(part, alpha) for part in self._run(gammas, betas, shots, seed)]
        if self.checkpoint:
            self.checkpoint.keep(key, scores, time.perf_counter() - started)
        return scores

    def _judged(self, bits: np.ndarray, alpha: float) -> tuple[float, float]:
        if self.confusion is None:
            values = self.energies(bits)
            return float(cvar(values, alpha)), float(values.mean())
        states, weights = nearest_probabilities(bits, self.confusion)
        values = self.energies(states)
        return float(cvar(values, alpha, weights)), float(weights @ values)

    def energies(self, bits: np.ndarray) -> np.ndarray:
        """Energies, shape ``(shots,)``, of bits of shape ``(shots, n)``."""
        return self.payload.energies((bits, range(self.ising.variables)))

    @property
    def now(self) -> float:
        """Reading of ``time.perf_counter``, had this attempt spent the earlier one's seconds too."""
        return time.perf_counter() + self.resumed.get("seconds", 0.0)

    @property
    def history(self) -> dict[str, Any]:
        """``resumed_from``: circuits, shots and seconds of an interrupted attempt; nothing when there was none."""
        return {"resumed_from": self.resumed} if self.resumed else {}

    def has_time(self, deadline: float) -> bool:
        """Whether one more circuit and the final read-out fit, by the slowest circuit so far."""
        return self.now + 2.0 * self.slowest <= deadline


def run_qaoa(
    payload: dimod.BinaryQuadraticModel,
    ising: Ising,
    template: Template,
    algorithm: Algorithm,
    deadline: float,
    broadcast: bool,
    checkpoint: Checkpoint | None = None,
) -> Readout:
    """Run a QAOA algorithm.

    Args:
        payload: BINARY model over 0 … n−1; energies are its own.
        ising: its Ising form.
        template: compiled for ``ising.structure(algorithm.depth)``.
        algorithm: settings; ``qaoa-trained`` repeats the whole run ``WHOLE_RUNS`` times with independent seeds and
            splits ``shots`` among the runs.
        deadline: reading of ``time.perf_counter`` after which only the read-out is still run. What was left out is
            named in ``parameters``; a trained job may then return fewer shots.
        broadcast: whether the ramp grid runs as one call, which cannot be interrupted.
        checkpoint: keeps what the choice of angles has measured, and holds what an interrupted attempt has. The answer
            is the same; ``parameters`` then says ``resumed_from``.
    """
    meter = _Meter(payload, ising, template, checkpoint=checkpoint)
    common = _common(ising, algorithm)
    if algorithm.name != "qaoa-trained":
        rng = np.random.default_rng(algorithm.seed)
        gammas, betas, record = _choose(meter, algorithm, deadline, broadcast, rng)
        bits = meter.sample(gammas, betas, algorithm.shots, rng)[0]
        return Readout(bits, meter.shots - len(bits), meter.circuits, common | record | meter.history)

    wanted = min(WHOLE_RUNS, algorithm.shots)
    share, rest = divmod(algorithm.shots, wanted)
    parts: list[np.ndarray] = []
    records: list[dict[str, Any]] = []
    for index, seeds in enumerate(np.random.SeedSequence(algorithm.seed).spawn(wanted)):
        now = meter.now
        if index > 0 and now >= deadline:
            break
        # each run gets an equal share of what is left, so that a slow training cannot starve the repetitions
        rng = np.random.default_rng(seeds)
        gammas, betas, record = _choose(meter, algorithm, now + (deadline - now) / (wanted - index), broadcast, rng)
        parts.append(meter.sample(gammas, betas, share + (index < rest), rng)[0])
        records.append(record)
    bits = np.concatenate(parts)
    return Readout(
        bits,
        meter.shots - len(bits),
        meter.circuits,
        common | {"runs": records, "runs_left_out": wanted - len(parts)} | meter.history,
        tuple(float(meter.energies(part).min()) for part in parts),
    )


def choose_angles(
    payload: dimod.BinaryQuadraticModel,
    ising: Ising,
    template: Template,
    algorithm: Algorithm,
    deadline: float,
    confusion: np.ndarray | None = None,
    checkpoint: Checkpoint | None = None,
    broadcast: bool = False,
) -> Angles:
    """The choice of angles alone: a schedule, trained where ``algorithm`` says so; one whole run without its read-out.

    Args:
        payload, ising, template, algorithm, deadline, checkpoint, broadcast: as for ``run_qaoa``.
        confusion: read-out errors of ``template``'s machine, shape ``(n, 2, 2)`` (``circuits.mitigation``): energies
            are judged after read-out mitigation.
    """
    meter = _Meter(payload, ising, template, confusion, checkpoint)
    rng = np.random.default_rng(algorithm.seed)
    gammas, betas, record = _choose(meter, algorithm, deadline, broadcast, rng)
    return Angles(gammas, betas, _common(ising, algorithm) | record | meter.history, meter.shots, meter.circuits)


def read_out(
    payload: dimod.BinaryQuadraticModel, ising: Ising, template: Template, algorithm: Algorithm, angles: Angles
) -> Readout:
    """The one trip of angles that were chosen elsewhere: all of ``algorithm.shots``."""
    meter = _Meter(payload, ising, template)
    bits = meter.sample(angles.gammas, angles.betas, algorithm.shots, np.random.default_rng([algorithm.seed, 1]))[0]
    energies = (float(meter.energies(bits).min()),) if algorithm.name == "qaoa-trained" else ()
    return Readout(bits, angles.shots, angles.circuits + 1, angles.record, energies)


def tail_shots(algorithm: Algorithm) -> int:
    """Shots whose mean is the CVaR of an evaluation."""
    shots = algorithm.tuning_shots
    return min(shots, max(LEAST_TAIL, math.ceil(algorithm.cvar_alpha * shots)))


def _common(ising: Ising, algorithm: Algorithm) -> dict[str, Any]:
    return {
        "cvar_alpha": algorithm.cvar_alpha,
        "tail_shots": tail_shots(algorithm),
        "gamma_unit": 1.0 / ising.scale,
        "mixer_ramp": MIXER_RAMP,
    }


@dataclass(frozen=True, eq=False)
class Schedule:
    """Angles that may be chosen.

    Attributes:
        gammas, betas: shape ``(depth,)``; γ in units of 1/``Ising.scale``, β in radians.
        source: ``ramp``, or the library's entry.
        length: of a ramp.
    """

    gammas: np.ndarray
    betas: np.ndarray
    source: str
    length: float | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What it is, JSON-able."""
        length = {} if self.length is None else {"ramp_length": self.length}
        angles = {"gammas": self.gammas.tolist(), "betas": self.betas.tolist()}
        return {"parameter_source": self.source} | length | angles


def schedules(ising: Ising, algorithm: Algorithm) -> list[Schedule]:
    """What there is to choose from: the nearest stored schedules for ``qaoa-library``, then the ramps."""
    ramps = [
        Schedule(*linear_ramp(length, algorithm.depth), source="ramp", length=length)
        for length in algorithm.ramp_lengths
    ]
    if algorithm.name != "qaoa-library":
        return ramps
    stored = lookup(Features.of(ising), algorithm.depth, STORED)
    return [Schedule(one.gammas, one.betas, f"library: {one.source}") for one in stored] + ramps


def untuned(ising: Ising, algorithm: Algorithm) -> Schedule:
    """The schedule that is taken without any evaluation: the nearest stored one, or the middle of the ramp grid."""
    there = schedules(ising, algorithm)
    return there[0] if algorithm.name == "qaoa-library" else there[len(there) // 2]


def _choose_schedule(
    meter: _Meter, algorithm: Algorithm, deadline: float, broadcast: bool, rng: np.random.Generator
) -> tuple[Schedule, dict[str, Any]]:
    """Schedule with the lowest sampled CVaR, and the record of the choice.

    A single one is taken as it is. Without time for any, ``untuned`` is.
    """
    there = schedules(meter.ising, algorithm)
    scores: Scores = []
    if len(there) > 1:
        if broadcast:
            gammas, betas = (np.stack(side) for side in zip(*((one.gammas, one.betas) for one in there), strict=True))
            scores = meter.scores(gammas, betas, algorithm, rng)
        else:
            for one in there:
                if not meter.has_time(deadline):
                    break
                scores += meter.scores(one.gammas, one.betas, algorithm, rng)
    best = there[scores.index(min(scores))] if scores else untuned(meter.ising, algorithm)
    tried = list(zip(there, scores, strict=False))
    record = best.record | {
        "cvar_by_ramp_length": [[one.length, value] for one, (value, _) in tried if one.length is not None]
    }
    if algorithm.name == "qaoa-library":
        record["cvar_by_stored"] = [[one.source, value] for one, (value, _) in tried if one.length is None]
    if len(there) > 1 and len(scores) < len(there):
        left_out = there[len(scores) :]
        record["ramp_lengths_left_out"] = [one.length for one in left_out if one.length is not None]
        if algorithm.name == "qaoa-library":
            record["stored_left_out"] = [one.source for one in left_out if one.length is None]
    return best, record


def _ramp_between(ends: np.ndarray, length: float, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """γ and β of ramps between free ends (``_PLAIN_RAMP`` gives ``linear_ramp``), both of shape ``(depth,)``."""
    at = (np.arange(1, depth + 1) - 0.5) / depth
    return length * (ends[0] * (1 - at) + ends[1] * at), MIXER_RAMP * (ends[2] * (1 - at) + ends[3] * at)


def _choose(
    meter: _Meter, algorithm: Algorithm, deadline: float, broadcast: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """γ and β of one whole run, shape ``(depth,)`` each, and the record of the choice.

    Training moves the two ends of both ramps (four numbers; the plain ramp is 0, 1, 1, 0) with COBYLA on the sampled
    CVaR, at most ``training_circuits`` circuits of ``tuning_shots`` shots.

    Source: M. J. D. Powell, "A direct search optimization method that models the objective and constraint functions
    by linear interpolation" (1994).
    """
    from scipy.optimize import minimize

    start, record = _choose_schedule(meter, algorithm, deadline, broadcast, rng)
    if algorithm.name != "qaoa-trained":
        return start.gammas, start.betas, record
    assert start.length is not None, "training starts at a ramp"
    length = start.length
    seen: list[tuple[tuple[float, float], np.ndarray]] = []

    def value(ends: np.ndarray) -> float:
        if len(seen) == algorithm.training_circuits or not meter.has_time(deadline):
            raise _OutOfTime
        (score,) = meter.scores(*_ramp_between(ends, length, algorithm.depth), algorithm, rng)
        seen.append((score, ends.copy()))
        return score[0] / meter.ising.scale

    with suppress(_OutOfTime):
        # COBYLA wants some evaluations beyond its dimension; ``value`` keeps the budget itself
        limit = algorithm.training_circuits + len(_PLAIN_RAMP) + 2
        minimize(value, _PLAIN_RAMP, method="COBYLA", options={"rhobeg": 0.3, "maxiter": limit})
    ends = min(seen, key=lambda pair: pair[0])[1] if seen else _PLAIN_RAMP
    gammas, betas = _ramp_between(ends, length, algorithm.depth)
    record |= {
        "parameter_source": "trained from a ramp" if seen else "ramp",
        "training_cvars": [value for (value, _), _ in seen],
        "gammas": gammas.tolist(),
        "betas": betas.tolist(),
    }
    return gammas, betas, record
