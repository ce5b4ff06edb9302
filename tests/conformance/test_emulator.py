"""The emulator's client passes the conformance suite against a running service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance
from resources.backends.emulator import Emulator
from resources.emulator.running import Running, serve_in_background
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, patience=PATIENCE) as running:
        yield running


class TestEmulator(BackendConformance):
    # with noise a deeper circuit is better only up to a point
    depths = (1, 2, 4)
    problems = range(8)

    @pytest.fixture(autouse=True)
    def _service(self, service: Running) -> None:
        self.service = service

    def backend(self) -> QuantumBackend:
        return Emulator(self.service.url, "quick-8", self.service.token)
