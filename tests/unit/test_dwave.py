"""D-Wave's real client library against a SAPI on loopback, through the adapters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import dimod
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("dwave.cloud", reason="the extra dwave is not installed")

from dwave.cloud.testing.mocks import qpu_pegasus_solver_data

from resources.backends.base import JobHandle, ProviderStatus
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.backends.dwave import DWave, DWaveHybrid, DWaveMock, Sapi
from resources.backends.dwave_embedding import Graph, embed, unembedded
from resources.envelope import Algorithm, EvidenceClass
from resources.failures import BackendError, FailureClass, InputError
from tests.loopback.sapi_server import LOST, SapiServer

TOKEN = "DEV-not-to-be-seen-0123456789"
KEY = "k" * 64
GRAPH = Graph.of(qpu_pegasus_solver_data(3)["properties"])


@pytest.fixture(scope="module")
def server() -> Iterator[SapiServer]:
    with SapiServer(TOKEN) as sapi:
        yield sapi


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: SapiServer) -> None:
    for name in ("DWAVE_API_SOLVER", "DWAVE_API_REGION", "HYBRID_DWAVE_SOLVER", "HYBRID_DWAVE_HYBRID_SOLVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DWAVE_API_TOKEN", TOKEN)
    monkeypatch.setenv("DWAVE_API_ENDPOINT", server.endpoint)
    monkeypatch.setenv("HYBRID_HOME", str(tmp_path))
    server.problems.clear()
    server.requests.clear()
    server.hold = False
    server._faults.clear()


def job(backend: Sapi, seed: int = 0, shots: int = 100):  # type: ignore[no-untyped-def]
    payload = asymmetric_problem(6, seed)
    return envelope_for(backend, payload, Algorithm(name="annealing", shots=shots, seed=seed)), payload


def submitted(server: SapiServer) -> int:
    return len(server.problems)


class TestLoopbackConformance(BackendConformance):
    """The processor's adapter passes the suite for any backend, over HTTP."""

    problems = range(4)

    def backend(self) -> DWave:
        return DWave()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.floats(0.0, 1.0), st.integers(0, 2**31))
def test_an_embedding_keeps_energies_and_gives_the_variables_back(n: int, density: float, seed: int) -> None:
    """Sparse payloads (minorminer) and dense ones (cliques): whole chains have the payload's energy."""
    rng = np.random.default_rng(seed)
    payload = dimod.BinaryQuadraticModel("BINARY")
    for i in range(n):
        payload.add_linear(i, rng.normal())
        for j in range(i):
            if rng.random() < density:
                payload.add_quadratic(i, j, rng.normal())
    payload.offset = rng.normal()
    placement = embed(payload, GRAPH, seed % 1000, 10.0)
    assert len({qubit for chain in placement.chains for qubit in chain}) == sum(map(len, placement.chains))
    assert set(placement.model.quadratic) <= {pair for a, b in GRAPH.edges for pair in ((a, b), (b, a))}
    bits = rng.integers(2, size=(5, n), dtype=np.int8)
    rows = [{q: 2 * int(row[v]) - 1 for v, chain in enumerate(placement.chains) for q in chain} for row in bits]
    assert np.allclose(placement.model.energies(rows), payload.energies((bits, range(n))))
    answer = dimod.SampleSet.from_samples_bqm(rows, placement.model)
    back, chains = unembedded(payload, placement.chains, answer)
    assert np.array_equal(back, bits)
    assert chains["chain_break_fraction"] == 0
    assert placement.model == embed(payload, GRAPH, seed % 1000, 10.0).model


def test_a_broken_chain_is_counted_and_outvoted() -> None:
    payload = dimod.BinaryQuadraticModel({0: 1.0, 1: -1.0}, {(0, 1): 1.0}, 0.0, "BINARY")
    read = {0: 1, 1: 1, 2: -1, 3: -1}
    answer = dimod.SampleSet.from_samples([read, read], "SPIN", energy=[0.0, 0.0], num_occurrences=[3, 1])
    bits, chains = unembedded(payload, [[0, 1, 2], [3]], answer)
    assert bits.tolist() == [[1, 0]] * 4
    assert chains["chain_break_fraction"] == 0.5
    assert chains["chain_length"] == {"min": 1, "mean": 2.0, "max": 3}


def test_another_process_reads_the_answer(server: SapiServer) -> None:
    envelope, payload = job(DWave())
    server.hold = True
    handle = DWave().submit(envelope, payload, KEY)
    assert DWave().status(handle) is ProviderStatus.QUEUED
    with pytest.raises(BackendError, match="has no answer"):
        DWave().result(handle)
    server.hold = False
    # nothing of the sender is left but the key, the state folder and the provider
    found = DWave().find(KEY)
    assert found == handle
    assert DWave().statuses([handle, JobHandle("dwave", "nobody", "none")]) == {handle: ProviderStatus.SUCCEEDED}
    result = DWave().result(found)
    assert result.envelope_digest == envelope.digest
    assert result.evidence_class is EvidenceClass.HARDWARE
    assert result.samples[0].energy == pytest.approx(
        min(payload.energies((((np.arange(64)[:, None] >> np.arange(6)) & 1), range(6))))
    )
    assert result.timings.execute == pytest.approx(0.015 + 120e-6 * 100)
    assert result.parameters["physical_qubits"] == sum(map(len, result.parameters["chains"]))
    assert result.calibration == {
        "solver": "Loopback_system1",
        "graph_id": server.qpu["identity"]["version"]["graph_id"],
    }


def test_a_price_is_charged_per_second_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_DWAVE_PRICE_PER_SECOND", "2.0")
    backend = DWave()
    envelope, payload = job(backend)
    handle = backend.submit(envelope, payload, KEY)
    assert backend.result(handle).actual_cost == pytest.approx(2.0 * (0.015 + 120e-6 * 100))
    assert backend.estimate(envelope).cost > 0
    for wrong in ("cheap", "-1", "nan", "inf"):
        monkeypatch.setenv("HYBRID_DWAVE_PRICE_PER_SECOND", wrong)
        with pytest.raises(InputError, match="HYBRID_DWAVE_PRICE_PER_SECOND: value"):
            DWave()


def test_a_lost_answer_is_adopted_and_nothing_is_sent_twice(server: SapiServer) -> None:
    backend = DWave()
    envelope, payload = job(backend)
    backend.solver()
    server.fail("POST", LOST)
    with pytest.raises(BackendError) as lost:
        backend.submit(envelope, payload, KEY)
    assert lost.value.failure_class is FailureClass.TRANSIENT
    assert not lost.value.not_sent
    adopted = DWave().find(KEY)
    assert adopted is not None
    assert DWave().submit(envelope, payload, KEY) == adopted
    assert submitted(server) == 1
    assert DWave().result(adopted).shots == 100


def test_a_label_that_only_contains_the_key_is_not_the_job(server: SapiServer) -> None:
    backend = DWave()
    envelope, payload = job(backend)
    backend.submit(envelope, payload, KEY + "-longer")
    assert backend.find(KEY) is None
    assert backend.find(KEY + "-longer") is not None


@pytest.mark.parametrize(
    ("code", "failure_class", "wait"),
    [
        (401, FailureClass.CAPABILITY, None),
        (403, FailureClass.CAPABILITY, None),
        (400, FailureClass.CAPABILITY, None),
        (429, FailureClass.SATURATION, 7.0),
        (500, FailureClass.TRANSIENT, None),
        (503, FailureClass.TRANSIENT, None),
    ],
)
@pytest.mark.parametrize("when", ["POST", "GET"])
def test_failures_have_their_class(
    server: SapiServer, when: str, code: int, failure_class: FailureClass, wait: float | None
) -> None:
    backend = DWave()
    envelope, payload = job(backend)
    backend.solver()
    server.fail(when, code, {"Retry-After": "7"})
    with pytest.raises(BackendError) as failed:
        backend.submit(envelope, payload, KEY) if when == "POST" else backend.find(KEY)
    assert failed.value.failure_class is failure_class
    assert failed.value.retry_after == wait
    assert TOKEN not in str(failed.value)
    assert submitted(server) == 0
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__


def test_a_wrong_token_is_named_by_its_variable_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DWAVE_API_TOKEN", "DEV-wrong-secret-987654")
    backend = DWave()
    envelope, payload = job(backend)
    with pytest.raises(BackendError) as refused:
        backend.submit(envelope, payload, KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert "DWAVE_API_TOKEN" in str(refused.value)
    assert "DEV-wrong" not in str(refused.value) + repr(backend)


def test_no_connection_says_that_nothing_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = DWave()
    envelope, payload = job(backend)
    backend.solver()
    monkeypatch.setenv("DWAVE_API_ENDPOINT", "http://127.0.0.1:9/sapi/v2/")
    with pytest.raises(BackendError) as unreachable:
        backend.submit(envelope, payload, KEY)
    assert unreachable.value.failure_class is FailureClass.TRANSIENT
    assert unreachable.value.not_sent


def test_a_garbled_answer_is_the_backends_fault_and_may_be_read_again(server: SapiServer) -> None:
    backend = DWave()
    handle = backend.submit(*job(backend), KEY)
    server.fail("GET", 200)
    with pytest.raises(BackendError, match="cannot be read") as garbled:
        backend.result(handle)
    assert garbled.value.failure_class is FailureClass.BACKEND
    assert backend.result(handle).shots == 100


def test_a_partial_answer_is_refused(server: SapiServer) -> None:
    backend = DWave()
    handle = backend.submit(*job(backend), KEY)
    entry = server.look(handle.provider_id)
    entry["answer"]["solutions"] = entry["answer"]["solutions"][: len(entry["answer"]["solutions"]) // 2 // 4 * 4]
    with pytest.raises(BackendError, match="cannot be read"):
        backend.result(handle)


def test_another_jobs_answer_is_refused() -> None:
    backend = DWave()
    backend.submit(*job(backend, seed=1), "one")
    other = backend.submit(*job(backend, seed=2), "two")
    with pytest.raises(BackendError, match="another job's"):
        backend.result(JobHandle("dwave", other.provider_id, "one"))


def test_cancel(server: SapiServer) -> None:
    backend = DWave()
    server.hold = True
    handle = backend.submit(*job(backend), KEY)
    backend.cancel(handle)
    assert backend.status(handle) is ProviderStatus.CANCELLED
    server.hold = False
    done = backend.submit(*job(backend, seed=1), "done")
    assert backend.status(done) is ProviderStatus.SUCCEEDED
    backend.cancel(done)
    assert backend.status(done) is ProviderStatus.SUCCEEDED


def test_an_unknown_status_word_means_look_again(server: SapiServer) -> None:
    backend = DWave()
    handle = backend.submit(*job(backend), KEY)
    server.look(handle.provider_id)["public"]["status"] = "PONDERING"
    assert backend.status(handle) is ProviderStatus.UNKNOWN


def test_a_batch_is_one_request_and_every_job_has_its_answer(server: SapiServer) -> None:
    backend = DWave()
    backend.solver()
    server.requests.clear()
    small, (huge, payload) = [(*job(backend, seed=s), f"key-{s}") for s in range(3)], job(backend, shots=20_000)
    answers = backend.submit_many([*small, (huge, payload, "huge")])
    assert [call for call in server.requests if call[0] == "POST"] == [("POST", "problems/")]
    assert submitted(server) == 3
    assert isinstance(answers[3], BackendError)
    assert answers[3].failure_class is FailureClass.CAPABILITY
    assert "at most 10000 reads" in str(answers[3])
    for (envelope, _, _), handle in zip(small, answers[:3], strict=True):
        assert isinstance(handle, JobHandle)
        assert backend.result(handle).envelope_digest == envelope.digest


def test_what_does_not_fit_is_refused_before_anything_is_sent(server: SapiServer) -> None:
    backend = DWave()
    payload = asymmetric_problem(60, 0)
    envelope = envelope_for(backend, payload, Algorithm(name="annealing", shots=10))
    envelope = envelope.model_copy(update={"timeout": envelope.timeout.model_copy(update={"execution": 1.0})})
    with pytest.raises(BackendError, match="no embedding of 60 variables") as refused:
        backend.submit(envelope, payload, KEY)
    assert refused.value.failure_class is FailureClass.CAPABILITY
    assert refused.value.not_sent
    assert submitted(server) == 0


def test_a_solver_the_account_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_DWAVE_SOLVER", "Advantage_of_dreams")
    with pytest.raises(BackendError, match="no solver 'Advantage_of_dreams'") as missing:
        DWave().solver()
    assert missing.value.failure_class is FailureClass.CAPABILITY


def test_nothing_is_asked_of_anybody_without_a_token(monkeypatch: pytest.MonkeyPatch, server: SapiServer) -> None:
    monkeypatch.delenv("DWAVE_API_TOKEN")
    for backend in (DWave(), DWaveHybrid()):
        assert "DWAVE_API_TOKEN" in (backend.available() or "")
        backend.capabilities()
        backend.estimate(job(backend)[0])
    assert DWaveMock().available() is None
    assert server.requests == []


def test_the_note_holds_no_secret(tmp_path: Path) -> None:
    backend = DWave()
    handle = backend.submit(*job(backend), KEY)
    (note,) = (tmp_path / "submissions").iterdir()
    assert TOKEN not in note.read_text()
    assert json.loads(note.read_text())["chains"]
    backend.forget(handle)
    assert not note.exists()
    with pytest.raises(BackendError, match="note of problem"):
        backend.result(handle)


def test_hybrid_uploads_solves_and_is_a_surrogate(server: SapiServer) -> None:
    backend = DWaveHybrid(price_per_second=0.5)
    envelope, payload = job(backend)
    handle = backend.submit(envelope, payload, KEY)
    assert DWaveHybrid().find(KEY) == handle
    assert backend.status(handle) is ProviderStatus.SUCCEEDED
    result = DWaveHybrid(price_per_second=0.5).result(handle)
    assert result.evidence_class is EvidenceClass.SURROGATE
    assert not result.evidence_class.is_quantum
    assert result.samples[0].energy == pytest.approx(
        min(payload.energies((((np.arange(64)[:, None] >> np.arange(6)) & 1), range(6))))
    )
    assert result.parameters["timing_us"]["qpu_access_time"] == 12_345
    assert result.actual_cost == pytest.approx(1.5)


def test_a_failed_upload_sent_no_problem(server: SapiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    # the client waits seconds between its own three tries
    monkeypatch.setattr("dwave.cloud.utils.decorators.time.sleep", lambda seconds: None)
    backend = DWaveHybrid()
    envelope, payload = job(backend)
    backend.solver()
    for _ in range(3):
        server.fail("POST", 401)
    with pytest.raises(BackendError) as failed:
        backend.submit(envelope, payload, KEY)
    assert failed.value.failure_class is FailureClass.CAPABILITY
    assert failed.value.not_sent
    assert TOKEN not in str(failed.value)
    assert submitted(server) == 0


def test_the_vendors_own_front_door_works_against_the_loopback_server(server: SapiServer) -> None:
    """The server is a SAPI to dwave-system's sampler too, not only to the calls the adapter makes."""
    from dwave.system import DWaveSampler

    with DWaveSampler(
        endpoint=server.endpoint, token=TOKEN, config_file=False, cache_enabled=False, solver="Loopback_system1"
    ) as sampler:
        a, b = sampler.edgelist[0]
        samples = sampler.sample_ising({a: -1.0, b: 0.0}, {(a, b): 1.0}, num_reads=20, label="front door")
        assert samples.first.sample == {a: 1, b: -1}
        assert samples.info["problem_label"] == "front door"
