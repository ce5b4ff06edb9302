"""A remote backend in one file: its cloud is a folder that both sides see, served by `python filecloud.py FOLDER`."""

import json
import os
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import dimod
import numpy as np

from resources.backends.base import Capabilities, Estimate, JobHandle, ProviderStatus, QuantumBackend, package_version
from resources.backends.readout import counted
from resources.envelope import EvidenceClass, JobEnvelope, JobResult
from resources.failures import BackendError, FailureClass
from resources.payloads import Payload, model_of


def put(path: Path, document: dict) -> None:
    """Whole or not at all, and the first one stays: one key is one job with one end."""
    part = path.parents[1] / f"{path.name}.{os.getpid()}"
    part.write_text(json.dumps(document))
    with suppress(FileExistsError):
        os.link(part, path)
    part.unlink()


@dataclass
class FileCloud(QuantumBackend):
    """`jobs/KEY` is a job, `ends/KEY` what became of it; a classical sampler, so its class is ``surrogate``."""

    name = "filecloud"
    root: Path = field(default_factory=lambda: Path(os.environ.get("FILECLOUD", "/nowhere")))

    def capabilities(self) -> Capabilities:
        return Capabilities(EvidenceClass.SURROGATE, 500, ("annealing",), metered=True, remote=True, idempotent=True)

    def version(self) -> str:
        return package_version("dwave-samplers")

    def available(self) -> str | None:
        return None if (self.root / "ends").is_dir() else "backend filecloud needs FILECLOUD, the folder of its cloud"

    def estimate(self, envelope: JobEnvelope) -> Estimate:
        return Estimate(queue_seconds=0.1, execution_seconds=1.0, cost=0.001 * envelope.algorithm.shots)

    def submit(self, envelope: JobEnvelope, payload: Payload, key: str) -> JobHandle:
        self.check(envelope)
        payload = model_of(envelope, payload)
        if missing := self.available():
            raise BackendError(missing, FailureClass.TRANSIENT, not_sent=True)
        job = {"shots": envelope.algorithm.shots, "seed": envelope.algorithm.seed, "model": payload.to_serializable()}
        put(self.root / "jobs" / key, job | {"envelope": envelope.digest})
        return JobHandle(self.name, key, key)

    def find(self, key: str) -> JobHandle | None:
        if missing := self.available():  # then nobody can say that a job is not there
            raise BackendError(missing, FailureClass.TRANSIENT)
        return JobHandle(self.name, key, key) if (self.root / "jobs" / key).exists() else None

    def status(self, handle: JobHandle) -> ProviderStatus:
        if self.find(handle.key) is None:
            raise BackendError(f"filecloud knows no job {handle.key}")
        end = self.root / "ends" / handle.key
        return ProviderStatus(json.loads(end.read_text())["state"]) if end.exists() else ProviderStatus.QUEUED

    def result(self, handle: JobHandle) -> JobResult:
        if self.status(handle) is not ProviderStatus.SUCCEEDED:
            raise BackendError(f"filecloud has no result of {handle.key}")
        job, end = (json.loads((self.root / kind / handle.key).read_text()) for kind in ("jobs", "ends"))
        payload = dimod.BinaryQuadraticModel.from_serializable(job["model"])
        return JobResult(
            envelope_digest=job["envelope"],
            samples=counted(payload, np.array(end["bits"], dtype=np.int8)),
            backend=self.name,
            evidence_class=EvidenceClass.SURROGATE,
            backend_version=self.version(),
            sdk_versions={"dwave-samplers": self.version()},
            width=payload.num_variables,
            depth=0,
            two_qubit_gates=0,
            shots=job["shots"],
            actual_cost=0.001 * job["shots"],
        )

    def cancel(self, handle: JobHandle) -> None:
        put(self.root / "ends" / handle.key, {"state": "cancelled"})


def serve(root: Path) -> None:
    """The cloud: takes what has no end yet, for ever."""
    from dwave.samplers import SteepestDescentSampler

    for kind in ("jobs", "ends"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    while True:
        for path in [path for path in root.glob("jobs/*") if not (root / "ends" / path.name).exists()]:
            job = json.loads(path.read_text())
            model = dimod.BinaryQuadraticModel.from_serializable(job["model"])
            found = SteepestDescentSampler().sample(model, num_reads=job["shots"], seed=job["seed"])
            bits = found.record.sample[:, [found.variables.index(i) for i in range(model.num_variables)]]
            put(root / "ends" / path.name, {"state": "succeeded", "bits": bits.tolist()})
        time.sleep(0.02)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
