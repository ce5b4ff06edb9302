"""The QAOA loop over any compiled template: choose a ramp, perhaps train it, read out.

Here: how angles are chosen within a budget of circuits, shots and seconds, and what is charged for it. Not here:
circuits (``templates``), schedules (``schedules``) or job documents (``backends``). Angles are chosen by the CVaR of
sampled energies alone: no exact expectation, no argmin, no best known value.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.circuits.checkpoint import Checkpoint, Scores
from resources.circuits.ising import Ising
from resources.circuits.mitigation import nearest_probabilities
from resources.circuits.schedules import MIXER_RAMP, cvar, linear_ramp
from resources.circuits.templates import Template

if TYPE_CHECKING:
    import dimod

    from resources.envelope import Algorithm

#: Independent whole runs (ramp choice, training, read-out) of ``qaoa-trained``; the final shots are split among them.
WHOLE_RUNS = 5

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
        scores = [self._judged(part, algorithm.cvar_alpha) for part in self._run(gammas, betas, shots, seed)]
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
    """Run ``qaoa-ramp`` or ``qaoa-trained``.

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
    common = {"cvar_alpha": algorithm.cvar_alpha, "gamma_unit": 1.0 / ising.scale, "mixer_ramp": MIXER_RAMP}
    if algorithm.name == "qaoa-ramp":
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
    """The choice of angles alone: the ramp, trained where ``algorithm`` says so, in one whole run without its read-out.

    Args:
        payload, ising, template, algorithm, deadline, checkpoint, broadcast: as for ``run_qaoa``.
        confusion: read-out errors of ``template``'s machine, shape ``(n, 2, 2)`` (``circuits.mitigation``): energies
            are judged after read-out mitigation.
    """
    meter = _Meter(payload, ising, template, confusion, checkpoint)
    rng = np.random.default_rng(algorithm.seed)
    gammas, betas, record = _choose(meter, algorithm, deadline, broadcast, rng)
    common = {"cvar_alpha": algorithm.cvar_alpha, "gamma_unit": 1.0 / ising.scale, "mixer_ramp": MIXER_RAMP}
    return Angles(gammas, betas, common | record | meter.history, meter.shots, meter.circuits)


def _choose_length(
    meter: _Meter, algorithm: Algorithm, deadline: float, broadcast: bool, rng: np.random.Generator
) -> tuple[float, dict[str, Any]]:
    """Ramp length with the lowest sampled CVaR, and the record of the choice.

    A grid of one point is taken as it is. Without time for any point the middle of the grid is taken.
    """
    lengths = algorithm.ramp_lengths
    scores: Scores = []
    if len(lengths) > 1:
        ramps = [linear_ramp(length, algorithm.depth) for length in lengths]
        gammas, betas = (np.stack(side) for side in zip(*ramps, strict=True))
        if broadcast:
            scores = meter.scores(gammas, betas, algorithm, rng)
        else:
            for k in range(len(lengths)):
                if not meter.has_time(deadline):
                    break
                scores += meter.scores(gammas[k], betas[k], algorithm, rng)
    best = scores.index(min(scores)) if scores else len(lengths) // 2
    record: dict[str, Any] = {
        "ramp_length": lengths[best],
        "cvar_by_ramp_length": [[length, value] for length, (value, _) in zip(lengths, scores, strict=False)],
    }
    if len(lengths) > 1 and len(scores) < len(lengths):
        record["ramp_lengths_left_out"] = list(lengths[len(scores) :])
    return lengths[best], record


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

    length, record = _choose_length(meter, algorithm, deadline, broadcast, rng)
    if algorithm.name == "qaoa-ramp":
        gammas, betas = linear_ramp(length, algorithm.depth)
        return gammas, betas, record | {"gammas": gammas.tolist(), "betas": betas.tolist()}
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
        "training_cvars": [value for (value, _), _ in seen],
        "gammas": gammas.tolist(),
        "betas": betas.tolist(),
    }
    return gammas, betas, record
