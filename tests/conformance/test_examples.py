"""The remote example keeps the seam's promises, and its jobs survive whoever sent them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from resources.backends.base import ProviderStatus, QuantumBackend
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.envelope import Algorithm
from resources.failures import BackendError
from resources.home import PROJECT
from tests.waiting import until

EXAMPLES = PROJECT / "examples"


@pytest.fixture(scope="module")
def filecloud() -> Iterator[Any]:
    """The example's module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield import_module("filecloud")


@pytest.fixture(scope="module")
def cloud(filecloud: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a cloud that is served."""
    root = tmp_path_factory.mktemp("cloud")
    with subprocess.Popen([sys.executable, str(EXAMPLES / "filecloud.py"), str(root)]) as serving:
        try:
            until(lambda: filecloud.FileCloud(root).available() is None)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("FILECLOUD", str(root))
                yield root
        finally:
            serving.kill()


class TestFileCloud(BackendConformance):
    @pytest.fixture(autouse=True)
    def _made(self, filecloud: Any, cloud: Path) -> None:
        self.make = filecloud.FileCloud

    def backend(self) -> QuantumBackend:
        made: QuantumBackend = self.make()
        return made


def test_another_process_s_job_is_found_cancelled_and_stays_so(filecloud: Any, tmp_path: Path) -> None:
    for kind in ("jobs", "ends"):
        (tmp_path / kind).mkdir()
    sender, payload = filecloud.FileCloud(tmp_path), asymmetric_problem(3, seed=1)
    sent = sender.submit(envelope_for(sender, payload, Algorithm(name="annealing", shots=20)), payload, "key")
    other = filecloud.FileCloud(tmp_path)
    assert other.find("key") == sent
    assert other.status(sent) is ProviderStatus.QUEUED
    other.cancel(sent)
    assert sender.status(sent) is ProviderStatus.CANCELLED
    with pytest.raises(BackendError, match="no result of key"):
        sender.result(sent)
    gone = filecloud.FileCloud(tmp_path / "elsewhere")
    with pytest.raises(BackendError, match="FILECLOUD"):
        gone.find("key")
