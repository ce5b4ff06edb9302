"""The mock D-Wave device passes the conformance suite."""

from __future__ import annotations

import pytest

from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance

pytest.importorskip("dwave.system", reason="the extra dwave is not installed")


class TestDWaveMock(BackendConformance):
    def backend(self) -> QuantumBackend:
        from resources.backends.dwave import DWaveMock

        return DWaveMock()
