"""The local backends pass the conformance suite, and backends broken on purpose fail it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from resources.backends.aer import Aer, AerMps
from resources.backends.aer_noisy import GENERIC_DEVICE, AerNoisy
from resources.backends.annealer import Annealer
from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance
from resources.backends.heuristic import Heuristic
from resources.backends.lightning import Lightning
from resources.backends.pennylane_device import PennyLaneDevice
from resources.backends.statevector import Statevector
from resources.circuits.ising import Structure
from resources.circuits.templates import Template


class TestAer(BackendConformance):
    def backend(self) -> QuantumBackend:
        return Aer()


class TestLightning(BackendConformance):
    def backend(self) -> QuantumBackend:
        return Lightning()


class TestStatevector(BackendConformance):
    def backend(self) -> QuantumBackend:
        return Statevector()


class TestAerMps(BackendConformance):
    problems = range(5)

    def backend(self) -> QuantumBackend:
        return AerMps()


class TestAerNoisy(BackendConformance):
    noise = 0.3
    # more layers are more noise: at some depth they cost more than they gain
    depths = (1, 2, 4)
    problems = range(5)

    def backend(self) -> QuantumBackend:
        return AerNoisy(device=GENERIC_DEVICE)


class TestPennyLaneDevice(BackendConformance):
    noise = 0.2
    depths = (2, 4)
    problems = range(4)
    most_variables = 4

    def backend(self) -> QuantumBackend:
        return PennyLaneDevice(device="default.mixed")


class TestAnnealer(BackendConformance):
    def backend(self) -> QuantumBackend:
        return Annealer()


class TestHeuristic(BackendConformance):
    def backend(self) -> QuantumBackend:
        return Heuristic()


@dataclass
class Tampered:
    """A template whose mixer has the wrong sign, or whose read-out is reversed."""

    template: Template
    structure: Structure
    fault: str

    @property
    def depth(self) -> int:
        return self.template.depth

    @property
    def two_qubit_gates(self) -> int:
        return self.template.two_qubit_gates

    def sample(self, angles: np.ndarray, shots: int, seed: int) -> np.ndarray:
        if self.fault == "mixer sign":
            layers = angles.copy().reshape(len(angles), self.structure.depth, -1)
            layers[:, :, -1] *= -1
            return self.template.sample(layers.reshape(len(angles), -1), shots, seed)
        return self.template.sample(angles, shots, seed)[:, :, ::-1]


@dataclass
class Broken(Lightning):
    fault: str = "none"

    def template(self, structure: Structure) -> Template:
        return Tampered(super().template(structure), structure, self.fault)


class SuiteOfBroken(BackendConformance):
    def __init__(self, fault: str) -> None:
        self.fault = fault

    def backend(self) -> QuantumBackend:
        return Broken(fault=self.fault)


def test_the_direction_test_sees_a_wrong_mixer_sign() -> None:
    with pytest.raises(AssertionError, match="not below the uniform mean"):
        SuiteOfBroken("mixer sign").test_direction()


def test_the_direction_test_sees_reversed_bits() -> None:
    suite = SuiteOfBroken("reversed bits")
    with pytest.raises(AssertionError, match=r"not below the uniform mean|not above 2"):
        suite.test_direction()
    with pytest.raises(AssertionError, match="wrong order"):
        suite.test_bit_order()


def test_the_suite_notices_wrong_energies_and_a_claimed_class() -> None:
    class Boasting(Annealer):
        def run(self, envelope, payload):  # type: ignore[no-untyped-def]
            result = super().run(envelope, payload)
            first = result.samples[0].model_copy(update={"energy": result.samples[0].energy - 1.0})
            return result.model_copy(
                update={"samples": (first, *result.samples[1:]), "evidence_class": Aer().capabilities().evidence_class}
            )

    class Suite(BackendConformance):
        def backend(self) -> QuantumBackend:
            return Boasting()

    with pytest.raises(AssertionError, match="energies differ"):
        Suite().test_samples_are_well_formed()
    with pytest.raises(AssertionError, match="simulator out of surrogate"):
        Suite().test_evidence_is_honest()
