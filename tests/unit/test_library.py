"""Stored schedules: what a problem looks like, what is found for it, and whether it is worth its shots."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from hybrid_assets.problems.qubo import Qubo
from hybrid_assets.problems.source import SourceFile
from resources.backends.aer import Aer
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.statevector import Statevector
from resources.circuits import device
from resources.circuits.ising import Ising
from resources.circuits.library import DEPTHS, FILE, Features, entries, lookup
from resources.circuits.qaoa import LEAST_TAIL, STORED, tail_shots
from resources.circuits.schedules import linear_ramp
from resources.circuits.statevector import Diagonal, evolve
from resources.envelope import Algorithm, JobResult

SHARED = os.environ.get("HYBRID_INSTANCES")
GRID = Algorithm().ramp_lengths


def features(linear: list[float], couplings: dict[tuple[int, int], float]) -> Features:
    matrix = np.zeros((len(linear), len(linear)))
    for pair, value in couplings.items():
        matrix[pair] = value
    return Features.of_bits(np.array(linear), matrix)


def test_features_by_hand() -> None:
    """4·x0·x1 − 8·x1·x2 is z0z1 − 2·z1z2 with fields −1, 1 and 2 on the three bits."""
    found = features([0.0, 0.0, 0.0], {(0, 1): 4.0, (1, 2): -8.0})
    assert (found.variables, found.density) == (3, pytest.approx(2 / 3))
    assert found.field_share == pytest.approx(6 / 11)
    assert found.balance == pytest.approx(-1 / np.sqrt(2 * 5))
    assert found.unit == pytest.approx(np.sqrt(3 / (5 / 11)))


def test_features_know_neither_units_nor_copies() -> None:
    """A second independent part like the first, and a bit without terms, change nothing."""
    one = features([1.0, -2.0, 0.5], {(0, 1): 1.0, (0, 2): 3.0})
    two = features([7.0, -14.0, 3.5, 0.0, 7.0, -14.0, 3.5], {(0, 1): 7.0, (0, 2): 21.0, (4, 5): 7.0, (4, 6): 21.0})
    assert two.variables == one.variables
    assert two.shape == pytest.approx(one.shape)


def test_of_a_model_without_couplings_and_of_a_constant() -> None:
    for linear in ([1.0, -1.0], [0.0, 0.0]):
        found = features(linear, {})
        assert np.isfinite([found.unit, *found.shape]).all()
        assert len(lookup(found, 3, STORED)) == STORED


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_has_schedules_of_different_classes(depth: int) -> None:
    found = lookup(features([1.0, -2.0, 0.5], {(0, 1): 1.0, (0, 2): 3.0}), depth, STORED)
    assert len({one.source.split(",")[0] for one in found}) == STORED
    for one in found:
        assert one.gammas.shape == one.betas.shape == (depth,)
        # both signs lead towards the minimum
        assert one.gammas.sum() > 0
        assert one.betas.sum() > 0


def test_other_depths_are_refused() -> None:
    with pytest.raises(ValueError, match="depths 1 to 20, not 21"):
        lookup(entries()[0].features, 21)


def test_what_is_stored_is_found_for_its_own_kind() -> None:
    for entry in entries():
        (found,) = lookup(entry.features, 4)
        assert found.source == entry.name


def test_the_file_is_small_and_whole() -> None:
    stored = json.loads(FILE.read_text())
    assert FILE.stat().st_size < 100_000
    assert len({(one["class"], one["variables"]) for one in stored}) == len(stored) >= 6
    assert all(len(one["schedules"]) == len(DEPTHS) for one in stored)


def share(linear: np.ndarray, couplings: np.ndarray, depth: int) -> tuple[float, float]:
    """Probability of the optimum along the nearest stored schedule, and along the ramp with the lowest exact CVaR."""
    diagonal = Diagonal.of(linear, couplings)
    best = np.isclose(diagonal.values, diagonal.values.min())
    stored = lookup(Features.of_bits(linear, couplings), depth)[0]
    ramps = [evolve(diagonal, *linear_ramp(length, depth)) for length in GRID]
    ramp = min(ramps, key=lambda state: state.cvar(diagonal, 0.1))
    state = evolve(diagonal, stored.gammas, stored.betas)
    return float(state.probabilities()[best].sum()), float(ramp.probabilities()[best].sum())


@pytest.mark.parametrize(("depth", "least"), [(2, 1.2), (5, 1.2), (10, 1.0)])
def test_stored_schedules_beat_the_best_ramp_on_new_problems(depth: int, least: float) -> None:
    """Dense Gaussian problems of 11 bits, a size and seeds that nothing was trained on; geometric means. A deep ramp
    hardly leaves anything to gain."""
    gains = []
    for seed in range(8):
        rng = np.random.default_rng([11, 1000 + seed])
        stored, ramp = share(rng.normal(size=11), np.triu(2 * rng.normal(size=(11, 11)), 1), depth)
        gains.append(np.log(stored / ramp))
    assert np.exp(np.mean(gains)) > least


@pytest.mark.skipif(SHARED is None, reason="HYBRID_INSTANCES is not set")
@pytest.mark.parametrize("depth", [3, 5, 10])
def test_left_out_instances_gain(depth: int) -> None:
    """The library has seen none of the instances: parts of gka1b and gka1c, geometric mean over them."""
    gains = []
    for name, first, last in (("gka1b", 0, 10), ("gka1b", 0, 15), ("gka1c", 0, 16), ("gka1c", 16, 32)):
        (raw,) = Qubo().read(SourceFile.open(Path(SHARED or "") / f"qubo/gka/{name}.sparse"))
        couplings = np.zeros((len(raw.quadratic.linear),) * 2)
        couplings[raw.quadratic.rows, raw.quadratic.cols] = raw.quadratic.values
        stored, ramp = share(raw.quadratic.linear[first:last], couplings[first:last, first:last], depth)
        gains.append(np.log(stored / ramp))
    assert np.exp(np.mean(gains)) > 1.2


def solve(backend: Aer | Statevector, **settings: object) -> JobResult:
    payload = asymmetric_problem(7, 3)
    algorithm = Algorithm.model_validate({"depth": 3, "shots": 300, "tuning_shots": 50} | settings)
    return backend.answer(envelope_for(backend, payload, algorithm), payload)


@pytest.mark.parametrize("tuning", ["device", "local"])
@pytest.mark.parametrize("backend", [Aer, Statevector])
def test_a_library_job_tries_ramps_and_stored_schedules_and_is_charged(
    backend: type[Aer] | type[Statevector], tuning: str
) -> None:
    result = solve(backend(), name="qaoa-library", tuning=tuning)
    assert (result.shots, result.tuning_shots, result.circuits) == (300, (5 + STORED) * 50, 5 + STORED + 1)
    ramps, stored = dict(result.parameters["cvar_by_ramp_length"]), dict(result.parameters["cvar_by_stored"])
    assert (tuple(ramps), len(stored)) == (GRID, STORED)
    source = result.parameters["parameter_source"]
    chosen = ramps[result.parameters["ramp_length"]] if source == "ramp" else stored[source]
    assert chosen == min(*ramps.values(), *stored.values())
    assert result.parameters.get("angles_from") == (None if tuning == "device" else "local kernel")
    assert result.parameters["tail_shots"] == LEAST_TAIL
    assert sum(s.energy * s.count for s in result.samples) / 300 < Ising.from_bqm(asymmetric_problem(7, 3)).offset


def test_local_tuning_asks_the_backend_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    template = Statevector.template

    class Once:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
            asked.append((len(angles), shots))
            return self.inner.sample(angles, shots, seed)  # type: ignore[attr-defined, no-any-return]

    monkeypatch.setattr(Statevector, "template", lambda self, structure: Once(template(self, structure)))
    for name in ("qaoa-ramp", "qaoa-library", "qaoa-trained"):
        result = solve(Statevector(), name=name, tuning="local", training_circuits=8)
        assert asked == [(1, 300)]
        assert len(result.run_energies) == (name == "qaoa-trained")
        assert result.tuning_shots == 50 * (result.circuits - 1) > 0
        asked.clear()


def test_a_tail_has_at_least_ten_shots() -> None:
    assert tail_shots(Algorithm(tuning_shots=50)) == 10
    assert tail_shots(Algorithm(tuning_shots=10, cvar_alpha=0.5)) == 10
    assert tail_shots(Algorithm(tuning_shots=256)) == 26


def test_above_the_local_limit_the_nearest_stored_schedule_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "TUNED_QUBITS", 3)
    payload = asymmetric_problem(4, seed=3)
    ising = Ising.from_bqm(payload)
    chosen = device.tune(payload, ising, Algorithm(name="qaoa-library", depth=3), time.perf_counter() + 60)
    (nearest,) = lookup(Features.of(ising), 3)
    assert (chosen.shots, chosen.circuits) == (0, 0)
    assert chosen.record["parameter_source"] == f"library: {nearest.source}"
    assert np.array_equal(chosen.gammas, nearest.gammas)
