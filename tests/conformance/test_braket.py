"""Braket's local simulators pass the conformance suite."""

from __future__ import annotations

import pytest

from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance

pytest.importorskip("braket.circuits", reason="the extra braket is not installed")


class TestBraketLocal(BackendConformance):
    problems = range(8)

    def backend(self) -> QuantumBackend:
        from resources.backends.braket import BraketLocal

        return BraketLocal()


class TestBraketEmulator(BackendConformance):
    # a density matrix takes a second and more: problems of 6 variables only
    problems = range(0, 9, 3)
    depths = (1, 4)
    noise = 0.05

    def backend(self) -> QuantumBackend:
        from resources.backends.braket import BraketEmulator

        return BraketEmulator()
