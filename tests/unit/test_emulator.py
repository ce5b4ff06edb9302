"""The emulator service through its real client and over plain HTTP: faults, money, restarts, and who may ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dimod
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.base import JobHandle, ProviderStatus
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.backends.emulator import Emulator
from resources.emulator import client
from resources.emulator.devices import DEVICES, CircuitError, backend_of, calibration_of, execute, read_circuit
from resources.emulator.faults import ROUTES, SECONDS, FaultPlan, Faults, plan_from, read_plan
from resources.emulator.running import Running, Tokens, serve, serve_in_background
from resources.envelope import Algorithm, EvidenceClass, JobEnvelope
from resources.failures import BackendError, FailureClass, InputError

BELL = 'OPENQASM 2.0; include "qelib1.inc"; qreg q[2]; creg c[2]; h q[0]; cx q[0],q[1]; measure q -> c;'
ENDED = (ProviderStatus.SUCCEEDED, ProviderStatus.FAILED, ProviderStatus.CANCELLED)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serve_in_background(tmp_path_factory.mktemp("emulator"), queue_seconds=0.0, rate=10_000) as running:
        yield running


@pytest.fixture
def service(shared: Running) -> Iterator[Running]:
    yield shared
    shared.admin("faults", {})


@pytest.fixture
def backend(service: Running) -> Emulator:
    return Emulator(service.url, "quick-4", service.token)


Job = tuple[JobEnvelope, dimod.BinaryQuadraticModel, str]


def job(backend: Emulator, seed: int = 0, **settings: Any) -> Job:
    """A small job whose key differs from every other test's."""
    algorithm = Algorithm(depth=2, shots=64, ramp_lengths=(3.0,), seed=seed)
    payload = asymmetric_problem(settings.pop("variables", 4), seed)
    envelope = envelope_for(backend, payload, algorithm).model_copy(update=settings)
    return envelope, payload, f"{envelope.idempotency_key}-{os.urandom(6).hex()}"


def wait(backend: Emulator, handle: JobHandle, patience: float = 30.0) -> ProviderStatus:
    until = time.monotonic() + patience
    while (status := backend.status(handle)) not in ENDED:
        assert time.monotonic() < until, "the job did not end"
        time.sleep(0.01)
    return status


def faulty(service: Running, *rules: dict[str, Any]) -> None:
    service.admin("faults", {"seed": 1, "faults": list(rules)})


def failure(call: Any, *arguments: Any) -> BackendError:
    with pytest.raises(BackendError) as caught:
        call(*arguments)
    return caught.value


def http(service: Running, method: str, path: str, token: str | None = None, **more: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or service.token}", **more.pop("headers", {})}
    return httpx.request(method, service.url + path, headers=headers, timeout=30, trust_env=False, **more)


# --- what it is ---------------------------------------------------------------------------------------------------


def test_capabilities_need_no_service() -> None:
    backend = Emulator("http://127.0.0.1:1", "heavy-hex-16")
    can = backend.capabilities()
    assert can.remote
    assert can.metered
    assert can.lookup
    assert can.idempotent
    assert not can.leaves_machine
    assert (can.evidence_class, can.tier, can.max_variables) == (EvidenceClass.EMULATOR, "emulator", 16)
    assert Emulator("http://cloud.example", "line-8", "secret-token").capabilities().leaves_machine


def test_nothing_listens() -> None:
    backend = Emulator("http://127.0.0.1:1", "quick-4")
    assert "make emulator" in (backend.available() or "")
    error = failure(backend.submit, *job(backend))
    assert (error.failure_class, error.not_sent) == (FailureClass.TRANSIENT, True)
    assert backend.estimate(job(backend)[0]).queue_seconds == 0


def test_bad_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="HYBRID_EMULATOR_DEVICE"):
        Emulator(device="no-such-device")
    monkeypatch.setenv("HYBRID_EMULATOR_URL", "nonsense")
    with pytest.raises(InputError, match="HYBRID_EMULATOR_URL"):
        Emulator()


def test_another_process_reads_the_result(service: Running, backend: Emulator) -> None:
    envelope, payload, key = job(backend, seed=3)
    handle = backend.submit(envelope, payload, key)
    other = Emulator(service.url, "quick-4", service.token)
    assert wait(other, handle) is ProviderStatus.SUCCEEDED
    result = other.result(handle)
    assert result.envelope_digest == envelope.digest
    assert result.actual_cost == pytest.approx(result.estimated_cost)
    assert result.actual_cost == pytest.approx(other.estimate(envelope).cost)
    assert result.calibration is not None
    assert result.calibration["calibration_id"] == "quick-4-0"
    assert result.logical_depth is not None
    assert 0 < (result.success_probability or 0) < 1
    assert backend.result(handle) == result


def test_many_jobs_are_one_submission(service: Running, backend: Emulator) -> None:
    jobs = [job(backend, seed) for seed in range(5)]
    too_large = (jobs[0][0].model_copy(update={"payload_variables": 5}), *jobs[0][1:])
    before = backend._client.call("GET", "/usage")
    answers = backend.submit_many([*jobs, too_large])  # type: ignore[list-item]
    assert isinstance(answers[-1], BackendError)
    handles = [answer for answer in answers if isinstance(answer, JobHandle)]
    assert [handle.key for handle in handles] == [key for *_, key in jobs]
    assert backend.submit_many(jobs) == handles
    for handle in handles:
        assert wait(backend, handle) is ProviderStatus.SUCCEEDED
    assert backend.statuses(handles) == dict.fromkeys(handles, ProviderStatus.SUCCEEDED)
    unknown = JobHandle("emulator", "no-such-job", "no-such-key")
    assert unknown not in backend.statuses([*handles, unknown])
    spent = [
        sum(month["shots"] for month in usage["usage"] if month["device"] == "quick-4")
        for usage in (before, backend._client.call("GET", "/usage"))
    ]
    assert spent[1] - spent[0] == 5 * 64


# --- faults, each through the real client ---------------------------------------------------------------------------


def test_a_lost_answer_is_found_by_its_key(service: Running, backend: Emulator) -> None:
    envelope, payload, key = job(backend)
    faulty(service, {"fault": "lost_answer", "times": 1})
    error = failure(backend.submit, envelope, payload, key)
    assert (error.failure_class, error.not_sent) == (FailureClass.TRANSIENT, False)
    handle = backend.find(key)
    assert handle is not None
    assert backend.submit(envelope, payload, key) == handle


def test_a_reset_leaves_nothing_behind(service: Running, backend: Emulator) -> None:
    backend.calibration()
    envelope, payload, key = job(backend)
    faulty(service, {"fault": "reset", "route": "submit", "times": 1})
    assert failure(backend.submit, envelope, payload, key).failure_class is FailureClass.TRANSIENT
    assert backend.find(key) is None


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("http_401", FailureClass.CAPABILITY),
        ("http_403", FailureClass.CAPABILITY),
        ("http_429", FailureClass.SATURATION),
        ("http_500", FailureClass.TRANSIENT),
        ("http_502", FailureClass.TRANSIENT),
        ("http_503", FailureClass.TRANSIENT),
        ("reset", FailureClass.TRANSIENT),
    ],
)
def test_refusals_have_their_class_on_every_route(
    service: Running, backend: Emulator, fault: str, kind: FailureClass
) -> None:
    envelope, payload, key = job(backend)
    handle = backend.submit(envelope, payload, key)
    assert wait(backend, handle) is ProviderStatus.SUCCEEDED
    faulty(service, {"fault": fault})
    calls = [
        (backend.submit, job(backend)),
        (backend.submit_many, ([job(backend)],)),
        (backend.find, (key,)),
        (backend.status, (handle,)),
        (backend.statuses, ([handle],)),
        (backend.result, (handle,)),
        (backend.cancel, (handle,)),
        (Emulator(service.url, "quick-4", service.token).calibration, ()),
    ]
    for call, arguments in calls:
        error = failure(call, *arguments)
        assert error.failure_class is kind, call
        assert (error.retry_after is not None) == (fault == "http_429"), call
        assert service.token not in str(error).replace("backend emulator", "")
    assert service.admin("faults")["shown"] == {fault: len(calls)}


def test_a_slow_body_is_waited_for_but_not_for_ever(
    service: Running, backend: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = backend.submit(*job(backend))
    wait(backend, handle)
    faulty(service, {"fault": "slow_body", "route": "result", "seconds": 0.4})
    started = time.monotonic()
    assert backend.result(handle).shots == 64
    assert time.monotonic() - started > 0.3
    monkeypatch.setattr(client, "CALL_SECONDS", 0.2)
    assert failure(backend.result, handle).failure_class is FailureClass.TRANSIENT


def test_an_unknown_word_is_unknown(service: Running, backend: Emulator) -> None:
    handle = backend.submit(*job(backend))
    faulty(service, {"fault": "unknown_status"})
    assert backend.status(handle) is ProviderStatus.UNKNOWN
    assert backend.statuses([handle]) == {handle: ProviderStatus.UNKNOWN}


def test_a_result_that_is_gone(service: Running, backend: Emulator) -> None:
    handle = backend.submit(*job(backend))
    wait(backend, handle)
    faulty(service, {"fault": "result_once"})
    assert backend.result(handle).shots == 64
    error = failure(backend.result, handle)
    assert error.failure_class is FailureClass.BACKEND
    assert "410" in str(error)


@pytest.mark.parametrize("fault", ["partial_result", "garbled_result", "foreign_result"])
def test_a_wrong_result_is_noticed(service: Running, backend: Emulator, fault: str) -> None:
    handles = [backend.submit(*job(backend, seed)) for seed in (1, 2)]
    for handle in handles:
        wait(backend, handle)
    faulty(service, {"fault": fault, "times": 1})
    assert failure(backend.result, handles[0]).failure_class is FailureClass.BACKEND
    assert backend.result(handles[0]).shots == 64


def test_maintenance(service: Running, backend: Emulator) -> None:
    faulty(service, {"fault": "maintenance", "seconds": 0.5, "times": 1})
    envelope, payload, key = job(backend)
    error = failure(backend.submit, envelope, payload, key)
    assert error.failure_class is FailureClass.SATURATION
    assert 0 < (error.retry_after or 0) <= 0.5
    assert Emulator(service.url, "quick-4", service.token).estimate(envelope).queue_seconds > 0.1
    time.sleep(error.retry_after or 0)
    assert wait(backend, backend.submit(envelope, payload, key)) is ProviderStatus.SUCCEEDED


def test_drift_changes_the_calibration_between_jobs(service: Running) -> None:
    backend = Emulator(service.url, "quick-8", service.token)
    first = backend.submit(*job(backend))
    wait(backend, first)
    faulty(service, {"fault": "drift", "times": 1})
    second = backend.submit(*job(backend))
    wait(backend, second)
    before, after = (backend.result(handle).calibration or {} for handle in (first, second))
    assert before["calibration_id"] != after["calibration_id"]
    assert before["time"] < after["time"]
    assert before["gates"] != after["gates"]


def test_a_job_the_provider_lost(service: Running, backend: Emulator) -> None:
    faulty(service, {"fault": "failed_job", "times": 1})
    handle = backend.submit(*job(backend))
    assert wait(backend, handle) is ProviderStatus.FAILED
    assert failure(backend.result, handle).failure_class is FailureClass.BACKEND


# --- the fault plan -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"faults": [{"fault": "gremlins"}]}, "faults.0.fault"),
        ({"faults": [{"fault": "reset", "probability": 1.5}]}, "faults.0.probability"),
        ({"faults": [{"fault": "reset", "probability": -0.1}]}, "faults.0.probability"),
        ({"faults": [{"fault": "reset", "probability": float("nan")}]}, "faults.0.probability"),
        ({"faults": [{"fault": "reset", "chance": 0.5}]}, "faults.0.chance"),
        ({"faults": [{"fault": "drift", "route": "submit"}]}, "cannot show at route submit"),
        ({"faults": [{"fault": "reset", "seconds": 2}]}, "takes no seconds"),
        ({"fault": []}, "fault"),
        ([], "plan"),
    ],
)
def test_a_wrong_plan_is_refused(service: Running, plan: Any, field: str) -> None:
    with pytest.raises(InputError) as caught:
        plan_from(plan, "plan.yaml")
    assert str(caught.value).startswith("plan.yaml: ")
    assert field in str(caught.value)


def test_a_wrong_plan_leaves_the_old_one(service: Running) -> None:
    faulty(service, {"fault": "drift", "probability": 0.0})
    answer = http(service, "PUT", "/admin/faults", service.admin_token, json={"faults": [{"fault": "gremlins"}]})
    assert answer.status_code == 422
    assert "faults.0.fault" in answer.json()["error"]["message"]
    assert service.admin("faults")["plan"]["faults"][0]["fault"] == "drift"  # type: ignore[index]


def test_plans_from_files(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("seed: 3\nfaults:\n- {fault: lost_answer, probability: 0.25}\n- {fault: http_429, times: 2}\n")
    plan = read_plan(file)
    assert [rule.fault for rule in plan.faults] == ["lost_answer", "http_429"]
    file.write_text("faults: [")
    with pytest.raises(InputError, match="neither YAML nor JSON"):
        read_plan(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_plan(tmp_path / "none.yaml")


@given(
    seed=st.integers(0, 1000),
    rules=st.lists(
        st.tuples(st.sampled_from(sorted(ROUTES)), st.floats(0, 1), st.none() | st.integers(1, 5)), max_size=6
    ),
)
@settings(max_examples=40, deadline=None)
def test_faults_show_where_and_as_often_as_they_may(seed: int, rules: list[tuple[Any, float, int | None]]) -> None:
    plan = FaultPlan.model_validate(
        {"seed": seed, "faults": [{"fault": f, "probability": p, "times": t} for f, p, t in rules]}
    )
    histories = []
    for _ in range(2):
        faults = Faults(plan)
        drawn = [(route, faults.draw(route)) for route in ("submit", "result", "execute") * 20]
        assert all(route in ROUTES[rule.fault] for route, rule in drawn if rule)
        shown = Counter(id(rule) for _, rule in drawn if rule)
        for rule in plan.faults:
            assert rule.times is None or shown[id(rule)] <= rule.times
            assert rule.probability > 0 or not shown[id(rule)]
        assert sum(faults.shown().values()) == sum(shown.values())
        histories.append([rule for _, rule in drawn])
    assert histories[0] == histories[1]


def test_only_timed_faults_have_seconds() -> None:
    assert set(SECONDS) < set(ROUTES)
    assert Tokens.from_environment().token not in repr(Tokens.from_environment())


# --- plain HTTP -----------------------------------------------------------------------------------------------------


def test_tokens(service: Running) -> None:
    assert http(service, "GET", "/devices", "wrong").status_code == 401
    assert http(service, "GET", "/admin/executions").status_code == 401
    assert http(service, "GET", "/admin/executions", service.admin_token).status_code == 200
    wrong = Emulator(service.url, "quick-4", "wrong-token-123")
    assert failure(wrong.find, "key").failure_class is FailureClass.CAPABILITY
    assert "refuses HYBRID_EMULATOR_TOKEN" in (wrong.available() or "")
    assert "wrong-token-123" not in repr(wrong) + str(failure(wrong.find, "key")) + str(wrong.available())


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(InputError, match="--home: state cannot be written there"):
        serve(tmp_path / "taken" / "emulator")


def test_elsewhere_a_token_of_ones_own_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_EMULATOR_TOKEN", raising=False)
    with pytest.raises(InputError, match="HYBRID_EMULATOR_TOKEN"):
        Tokens.from_environment("0.0.0.0")
    assert "HYBRID_EMULATOR_TOKEN" in (Emulator("http://cloud.example").available() or "")
    monkeypatch.setenv("HYBRID_EMULATOR_TOKEN", "my-own-token")
    assert Tokens.from_environment("0.0.0.0").admin is None


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"device": "mystery"}, 404, "mystery"),
        ({"shots": 0}, 422, "shots"),
        ({"colour": "red"}, 422, "colour"),
        ({"circuits": []}, 422, "circuits"),
        ({"circuits": [{"format": "qasm2", "program": "OPENQASM 2.0; nonsense"}]}, 422, "cannot be read"),
        ({"circuits": [{"format": "qasm2", "program": "OPENQASM 2.0; qreg q[1];"}]}, 422, "measures nothing"),
        ({"circuits": [{"format": "qpy", "program": "not base64!"}]}, 422, "cannot be read"),
        (
            {
                "circuits": [
                    {"format": "qasm2", "program": BELL.replace("qreg q[2]; creg c[2]", "qreg q[9]; creg c[9]")}
                ]
            },
            422,
            "9 qubits",
        ),
        ({"circuits": [{"format": "qasm2", "program": BELL, "bindings": [[0.5]]}]}, 422, "0 free parameters"),
    ],
)
def test_bad_jobs_are_refused_with_the_field(service: Running, change: dict[str, Any], status: int, said: str) -> None:
    good = {"device": "quick-4", "shots": 10, "circuits": [{"format": "qasm2", "program": BELL}]}
    answer = http(service, "POST", "/jobs", json=good | change)
    assert answer.status_code == status
    assert said in answer.json()["error"]["message"]


def ended(service: Running, identifier: str) -> dict[str, Any]:
    until = time.monotonic() + 30
    while (answer := http(service, "GET", f"/jobs/{identifier}").json())["status"] in ("queued", "running"):
        assert time.monotonic() < until
        time.sleep(0.02)
    assert answer["status"] == "completed", answer
    return http(service, "GET", f"/jobs/{identifier}/results").json()


def test_anybodys_circuits_run(service: Running) -> None:
    """A transpiled Bell state in OpenQASM 2, a sweep in OpenQASM 3 where its reader is installed; one job, one key."""
    pytest.importorskip("qiskit_qasm3_import")
    sweep = (
        'OPENQASM 3.0; include "stdgates.inc"; input float theta; qubit[1] q; bit[1] c; '
        "rx(theta) q[0]; c[0] = measure q[0];"
    )
    document = {
        "device": "line-8",
        "shots": 2000,
        "tags": ["bell"],
        "circuits": [
            {"format": "qasm2", "program": BELL},
            {"format": "qasm3", "program": sweep, "bindings": [[0.0], [np.pi]]},
        ],
    }
    headers = {"Idempotency-Key": "bell-and-sweep"}
    first, second = (http(service, "POST", "/jobs", json=document, headers=headers).json()["id"] for _ in range(2))
    assert first == second
    result = ended(service, first)
    ((bell,), (zero, one)) = result["results"]
    assert bell["00"] + bell["11"] > 1900
    assert min(bell["00"], bell["11"]) > 800
    assert zero["0"] > 1900
    assert one["1"] > 1900
    assert result["cost"] == pytest.approx(0.10 + 0.0001 * 6000)
    assert http(service, "GET", "/jobs?tag=bell").json()["jobs"] == [{"id": first, "status": "completed"}]


def test_per_gate_and_global_noise_agree_on_a_bell_state() -> None:
    for name, noise in (("line-8", "per gate"), ("quick-4", "global")):
        outcome = execute(name, 0, "qasm2", BELL, [[]], 4000, seed=1)
        assert outcome.noise == noise
        wrong = sum(count for bits, count in outcome.counts[0].items() if bits in ("01", "10")) / 4000
        calibration = calibration_of(name, 0)
        floor = 0.5 * sum(q["readout_error"] for q in calibration["qubits"][:2])
        assert floor < wrong < 0.05


def test_a_calibration_document_is_the_whole_device() -> None:
    from qiskit import transpile

    for name in DEVICES:
        assert calibration_of(name, 2) == calibration_of(name, 2) != calibration_of(name, 1)
        target = backend_of(calibration_of(name, 1)).target
        circuit = transpile(read_circuit("qasm2", BELL), target=target, seed_transpiler=0)
        assert set(circuit.count_ops()) <= set(DEVICES[name].gates) | {"measure"}
    with pytest.raises(CircuitError):
        read_circuit("qpy", "AAAA")


# --- the process ----------------------------------------------------------------------------------------------------


def test_the_queue_cancel_and_the_rate_limit(tmp_path: Path) -> None:
    """Priority and arrival decide who runs first; a cancelled job never runs; too many calls get 429; a clean end."""
    with serve_in_background(tmp_path, queue_seconds=0.4, rate=8, workers=1) as running:
        backend = Emulator(running.url, "quick-4", running.token)
        jobs = [job(backend, seed, priority=priority) for seed, priority in ((0, 0), (1, 0), (2, 5), (3, 0))]
        handles = [handle for handle in backend.submit_many(jobs) if isinstance(handle, JobHandle)]
        cancelled = handles.pop()
        backend.cancel(cancelled)
        waiting = backend._client.call("GET", f"/jobs/{handles[1].provider_id}")
        assert (waiting["status"], waiting["position"]) == ("queued", 2)
        assert 0 < waiting["estimated_wait"] <= 1.0
        while set(backend.statuses(handles).values()) != {ProviderStatus.SUCCEEDED}:
            time.sleep(0.15)
        queued = [backend.result(handle).timings.queue for handle in handles]
        assert min(queued) >= 0.4
        assert queued[2] < queued[0] < queued[1]
        backend.cancel(handles[0])
        time.sleep(1)
        assert backend.status(handles[0]) is ProviderStatus.SUCCEEDED
        assert backend.status(cancelled) is ProviderStatus.CANCELLED
        executions: Any = running.admin("executions")["executions"]
        assert [executions[handle.key]["executions"] for handle in (*handles, cancelled)] == [1, 1, 1, 0]
        with httpx.Client(headers={"Authorization": f"Bearer {running.token}"}, trust_env=False) as caller:
            answers = [caller.get(f"{running.url}/usage") for _ in range(100)]
        limited = [answer for answer in answers if answer.status_code == 429]
        assert limited
        assert all(0 < float(answer.headers["retry-after"]) < 1 for answer in limited)
        running.stop()
        assert running.process.returncode in (0, -signal.SIGTERM)
    assert "Traceback" not in (tmp_path / "emulator.log").read_text()


def test_a_second_service_on_the_same_home_is_refused(service: Running, tmp_path: Path) -> None:
    with serve_in_background(tmp_path):
        refused = subprocess.run(
            [sys.executable, "-m", "resources.emulator", "--home", str(tmp_path), "--port", "0"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert refused.returncode == 2
    assert "another emulator serves from there" in refused.stderr


def test_killed_and_restarted_it_loses_nothing_and_runs_nothing_twice(tmp_path: Path) -> None:
    """kill -9 while jobs queue, run and arrive; every key ends as one job with one execution."""
    running = serve_in_background(tmp_path, queue_seconds=0.1)
    port = int(running.url.rsplit(":", 1)[1])
    backend = Emulator(running.url, "line-8", running.token)
    jobs = [job(backend, seed) for seed in range(24)]
    backend.submit(*jobs[0])
    unsure: list[FailureClass] = []

    def send() -> None:
        for each in jobs:
            try:
                backend.submit(*each)
            except BackendError as error:
                unsure.append(error.failure_class)

    sender = threading.Thread(target=send)
    sender.start()
    for pause in (0.5, 0.4):
        time.sleep(pause)
        running.kill()
        running = serve_in_background(tmp_path, port=port, queue_seconds=0.1)
    sender.join()
    assert set(unsure) <= {FailureClass.TRANSIENT}
    try:
        # what was on its way when the service died is either there or not; sending it again is safe either way
        handles = [backend.find(key) or backend.submit(*each) for each in jobs for key in [each[2]]]
        for handle in handles:
            assert wait(backend, handle, 60) is ProviderStatus.SUCCEEDED
            assert backend.result(handle).shots == 64
        executions: Any = running.admin("executions")["executions"]
        assert {key: entry["executions"] for key, entry in executions.items()} == {key: 1 for *_, key in jobs}
    finally:
        running.stop()


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    script = (
        "import sys, os, signal; from pathlib import Path; from resources.emulator.running import serve_in_background;"
        "running = serve_in_background(Path(sys.argv[1])); print(running.process.pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    parent = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=60)
    child, until = int(parent.stdout), time.monotonic() + 15
    while _alive(child):
        assert time.monotonic() < until, "the service outlives its parent"
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        # a zombie that nobody has reaped is not alive
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
