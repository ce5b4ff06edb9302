"""IBM's primitives in local mode pass the conformance suite, with each kind of mitigation as well as without."""

from __future__ import annotations

import numpy as np
import pytest

from resources.backends.base import QuantumBackend
from resources.backends.conformance import BackendConformance, asymmetric_problem, envelope_for
from resources.backends.conformance_programs import asymmetric_program, exact_values, program_envelope
from resources.backends.ibm_local import IbmLocal
from resources.circuits.ising import Ising
from resources.circuits.pauli import Kind, PauliProgram, Rotation, Term
from resources.circuits.templates import qiskit_template
from resources.envelope import PAULI, Algorithm, EvidenceClass, Mitigation, PostProcessing
from resources.failures import BackendError, FailureClass


class TestIbmLocal(BackendConformance):
    # problems of six variables, all that a small device takes; one depth, because on a noisy device of few couplings
    # a second layer costs more fidelity than it gains
    problems = range(0, 7, 3)
    depths = (1,)
    noise = 0.1

    def backend(self) -> QuantumBackend:
        return IbmLocal()


def test_the_result_records_the_device() -> None:
    backend, payload = IbmLocal(), asymmetric_problem(4, seed=1)
    envelope = envelope_for(backend, payload, Algorithm(depth=2, ramp_lengths=(3.0,), shots=300))
    result = backend.result(backend.submit(envelope, payload, "key"))
    assert result.evidence_class is EvidenceClass.EMULATOR
    assert result.backend_version.startswith("fake_oslo ")
    assert result.calibration is not None
    assert result.calibration["time"].startswith("20")
    assert result.layout is not None
    assert set(result.calibration["qubits"]) >= {str(qubit) for qubit in result.layout}
    assert result.logical_two_qubit_gates == 2 * 6 < result.two_qubit_gates
    assert result.success_probability is not None
    assert 0 < result.success_probability < 1
    deeper = envelope.model_copy(update={"algorithm": envelope.algorithm.model_copy(update={"depth": 4})})
    again = backend.result(backend.submit(deeper, payload, "deeper"))
    assert again.success_probability is not None
    assert again.success_probability < result.success_probability


@pytest.mark.parametrize("asked", [{"twirling": True}, {"dynamical_decoupling": "XY4"}])
def test_the_vendors_mitigation_is_applied(asked: dict[str, object]) -> None:
    backend, payload = IbmLocal(), asymmetric_problem(4, seed=2)
    plain = Algorithm(depth=1, ramp_lengths=(3.0,), shots=512)
    results = [
        backend.result(backend.submit(envelope_for(backend, payload, algorithm), payload, f"key-{index}"))
        for index, algorithm in enumerate((plain, plain.model_copy(update={"mitigation": Mitigation(**asked)})))
    ]
    assert results[0].samples != results[1].samples
    assert results[1].shots == 512


def test_readout_mitigation_moves_the_expectation_and_leaves_the_samples() -> None:
    backend, payload = IbmLocal(), asymmetric_problem(3, seed=3)
    algorithm = Algorithm(depth=1, ramp_lengths=(3.0,), shots=4000, mitigation=Mitigation(readout=True))
    envelope = envelope_for(backend, payload, algorithm)
    result = backend.result(backend.submit(envelope, payload, "key"))
    assert result.post_processing is PostProcessing.RAW
    assert result.expectation_raw is not None
    assert result.expectation_mitigated is not None
    # read-out errors pull towards the uniform mean, away from the noise-free value
    ising = Ising.from_bqm(payload)
    angles = ising.angles(np.array([result.parameters["gammas"]]), np.array([result.parameters["betas"]]))
    bits = qiskit_template(ising.structure(1)).sample(angles, 20_000, seed=1)[0]
    exact = float(payload.energies((bits, range(3))).mean())
    assert abs(result.expectation_mitigated - exact) < abs(result.expectation_raw - exact)


def test_postselection_drops_and_counts() -> None:
    backend, payload = IbmLocal(), asymmetric_problem(4, seed=4)
    algorithm = Algorithm(depth=1, ramp_lengths=(3.0,), shots=400, mitigation=Mitigation(postselect=True))
    envelope = envelope_for(backend, payload, algorithm)
    with pytest.raises(BackendError, match="symmetry") as refusal:
        backend.submit(envelope, payload, "without")
    assert refusal.value.failure_class is FailureClass.CAPABILITY
    envelope = envelope.model_copy(update={"tags": {"symmetry": "parity=even"}})
    result = backend.result(backend.submit(envelope, payload, "with"))
    assert result.post_processing is PostProcessing.POSTSELECTED
    assert result.shots + result.discarded_shots == 400
    assert 0 < result.discarded_shots < 400
    assert all(sample.bits.count("1") % 2 == 0 for sample in result.samples)


def test_an_unknown_pulse_sequence_is_refused() -> None:
    backend, payload = IbmLocal(), asymmetric_problem(3, seed=5)
    algorithm = Algorithm(mitigation=Mitigation(dynamical_decoupling="UDD"))
    with pytest.raises(BackendError, match="XY4") as refusal:
        backend.submit(envelope_for(backend, payload, algorithm), payload, "key")
    assert refusal.value.failure_class is FailureClass.CAPABILITY


def test_an_unknown_fake_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_IBM_FAKE", "fake_atlantis")
    missing = IbmLocal().available()
    assert missing is not None
    assert "fake_atlantis" in missing
    assert "HYBRID_IBM_FAKE" in missing


def test_trex_undoes_read_out_errors_of_values() -> None:
    observable = (Term(pauli="ZZZZ", coefficient=2.0),)
    backend, program = IbmLocal(), PauliProgram(initial=(1, 1, 1, 1), observables=(observable,))
    exact, results = 2.0, []
    for mitigation in (Mitigation(), Mitigation(readout=True)):
        algorithm = Algorithm(name=PAULI, shots=2048, mitigation=mitigation)
        envelope = program_envelope(backend, program, "estimate", algorithm)
        results.append(backend.result(backend.submit(envelope, program, f"key-{mitigation.readout}")))
    (raw,), (mitigated,) = (np.array(result.values[0]) for result in results)
    assert exact - raw > 5 * results[0].standard_errors[0][0]
    assert abs(exact - mitigated) < 5 * results[1].standard_errors[0][0] < 0.5
    assert [result.post_processing for result in results] == [PostProcessing.RAW, PostProcessing.MITIGATED]
    assert [result.parameters["readout_mitigation"] for result in results] == [None, "TREX"]
    assert results[1].raw_values[0][0] == pytest.approx(raw, abs=0.1)
    # 32 randomizations of 64 shots, and as many to learn the read-out errors
    assert [result.parameters["calibration_shots"] for result in results] == [0, 2048]
    assert [result.shots for result in results] == [2048, 2048]


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_the_vendors_mitigation_of_programs(kind: Kind) -> None:
    backend, program = IbmLocal(), asymmetric_program(kind)
    program = program.model_copy(update={"rows": program.rows[:2], "observables": program.observables[:1]})
    exact, values = exact_values(program, kind), []
    for asked in ({}, {"twirling": True}, {"dynamical_decoupling": "XX"}):
        algorithm = Algorithm(name=PAULI, shots=100, mitigation=Mitigation(**asked))
        envelope = program_envelope(backend, program, kind, algorithm)
        result = backend.result(backend.submit(envelope, program, f"{kind}-{asked}"))
        # twirling rounds up to two randomizations of 64 shots
        assert result.shots == result.circuits * (128 if "twirling" in asked else 100)
        assert (np.abs(np.array(result.values) - exact) <= 5 * np.array(result.standard_errors) + 0.3).all()
        values.append(result.values)
    assert len(set(values)) == 3


def test_values_of_a_large_device_come_from_the_sampler() -> None:
    # the Estimator would read out, and simulate, all of its qubits
    backend, program = IbmLocal(device_name="fake_guadalupe"), asymmetric_program("estimate")
    program = program.model_copy(update={"rows": program.rows[:1], "observables": program.observables[:1]})
    envelope = program_envelope(backend, program, "estimate", Algorithm(name=PAULI, shots=1000))
    result = backend.result(backend.submit(envelope, program, "key"))
    assert result.parameters["primitive"] == "Sampler"
    errors = np.array(result.standard_errors)
    assert (np.abs(np.array(result.values) - exact_values(program, "estimate")) <= 5 * errors + 0.3).all()


def test_what_a_program_cannot_be_is_refused() -> None:
    backend, program = IbmLocal(), asymmetric_program("estimate")
    for change in ({"mitigation": {"postselect": True}}, {"compilation": {"layout": (0, 1)}}):
        algorithm = Algorithm.model_validate({"name": PAULI, "shots": 64, **change})
        with pytest.raises(BackendError) as refusal:
            backend.submit(program_envelope(backend, program, "estimate", algorithm), program, "key")
        assert refusal.value.failure_class is FailureClass.CAPABILITY


def test_errors_of_values_know_that_strings_are_correlated() -> None:
    # both strings say the same in every shot: the error of their sum is twice that of one
    rotation = Rotation(pauli="XII", factor=1.2)
    strings = {"one": ("ZII",), "both": ("ZII", "IZI"), "all": ("ZII", "IZI", "IIZ")}
    backend = IbmLocal()
    # |000> + |111> up to weights: two CNOTs as rotations
    cnots = [Rotation(pauli=pauli, factor=factor) for pauli, factor in (
        ("ZXI", np.pi / 2), ("ZII", -np.pi / 2), ("IXI", -np.pi / 2), ("IZX", np.pi / 2), ("IZI", -np.pi / 2),
        ("IIX", -np.pi / 2),
    )]  # fmt: skip
    observables = tuple(tuple(Term(pauli=p, coefficient=1.0) for p in each) for each in strings.values())
    program = PauliProgram(initial=(0, 0, 0), rotations=(rotation, *cnots), observables=observables)
    envelope = program_envelope(backend, program, "estimate", Algorithm(name=PAULI, shots=4000))
    result = backend.result(backend.submit(envelope, program, "key"))
    exact = exact_values(program, "estimate")[0]
    assert exact[2] == pytest.approx(3 * exact[0])
    one, both, all_ = result.standard_errors[0]
    assert one == pytest.approx(np.sqrt((1 - exact[0] ** 2) / 4000), rel=0.05)
    # noise makes them a little less alike
    assert 1.8 * one < both <= 2 * one * 1.05
    assert 2.6 * one < all_ <= 3 * one * 1.05
