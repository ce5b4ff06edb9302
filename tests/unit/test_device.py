"""Circuits on devices: the fidelity proxy by hand, routing, calibration, angles before the trip."""

from __future__ import annotations

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resources.backends.aer import Aer
from resources.backends.aer_noisy import GENERIC_DEVICE, AerNoisy, device_named
from resources.backends.conformance import asymmetric_problem, envelope_for
from resources.circuits import device as on_device
from resources.circuits.device import (
    calibration_id,
    calibration_of,
    estimate_on,
    prepare,
    success_probability,
    tune,
    worst_case,
)
from resources.circuits.ising import Ising, Structure
from resources.circuits.templates import logical_circuit, swap_network
from resources.envelope import Algorithm, Compilation, EvidenceClass, Mitigation
from resources.failures import BackendError, FailureClass

T1, T2 = 100e-6, 50e-6
ERROR = {"sx": 0.001, "cx": 0.01, "measure": 0.02}
SECONDS = {"sx": 50e-9, "cx": 400e-9, "measure": 1e-6}


def line(qubits: int = 3, decay: bool = True):
    """A target on a line with round numbers."""
    from qiskit.circuit import Delay, Measure, Parameter
    from qiskit.circuit.library import CXGate, RZGate, SXGate
    from qiskit.transpiler import InstructionProperties, QubitProperties, Target

    properties = [QubitProperties(t1=T1, t2=T2) if decay else QubitProperties() for _ in range(qubits)]
    target = Target(num_qubits=qubits, qubit_properties=properties, dt=1e-9)

    def known(name):
        return InstructionProperties(error=ERROR[name], duration=SECONDS[name])

    target.add_instruction(
        RZGate(Parameter("a")), {(q,): InstructionProperties(error=0, duration=0) for q in range(qubits)}
    )
    target.add_instruction(SXGate(), {(q,): known("sx") for q in range(qubits)})
    target.add_instruction(Measure(), {(q,): known("measure") for q in range(qubits)})
    target.add_instruction(Delay(Parameter("t")), {(q,): None for q in range(qubits)})
    pairs = [(q, q + 1) for q in range(qubits - 1)]
    target.add_instruction(CXGate(), {pair: known("cx") for pair in pairs + [(b, a) for a, b in pairs]})
    return target


def test_success_probability_by_hand() -> None:
    """SX on qubits 0 and 1, CX(0,1), CX(1,2), all read out: qubit 0 waits for nothing after its CX because it is read
    at once, qubit 2 is in its ground state until its CX."""
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(3, 3)
    circuit.sx(0)
    circuit.rz(0.3, 0)
    circuit.sx(1)
    circuit.sx(1)
    circuit.cx(0, 1)
    circuit.cx(1, 2)
    circuit.measure(range(3), range(3))
    # qubit 0 waits one SX for qubit 1; nobody else waits
    expected = (1 - 0.001) ** 3 * (1 - 0.01) ** 2 * (1 - 0.02) ** 3 * math.exp(-50e-9 / T2)
    assert success_probability(circuit, line()) == pytest.approx(expected, rel=1e-12)
    ideal = (1 - 0.001) ** 3 * (1 - 0.01) ** 2 * (1 - 0.02) ** 3
    assert success_probability(circuit, line(decay=False)) == pytest.approx(ideal, rel=1e-12)


def test_waiting_at_a_barrier_and_in_a_delay_decays() -> None:
    from qiskit import QuantumCircuit

    circuit = QuantumCircuit(3, 1)
    circuit.sx(0)
    circuit.delay(3, 0, unit="us")
    circuit.cx(1, 2)
    circuit.barrier()
    circuit.delay(500, 0, unit="dt")
    circuit.measure(0, 0)
    idle = 3e-6 + 500e-9
    expected = (1 - 0.001) * (1 - 0.01) * (1 - 0.02) * math.exp(-idle / T2)
    assert success_probability(circuit, line()) == pytest.approx(expected, rel=1e-12)
    assert success_probability(QuantumCircuit(3), line()) == 1.0


def test_a_broken_coupler_leaves_no_hope() -> None:
    from qiskit import QuantumCircuit
    from qiskit.transpiler import InstructionProperties

    target, circuit = line(), QuantumCircuit(3)
    target.update_instruction_properties("cx", (0, 1), InstructionProperties(error=1.0, duration=4e-7))
    circuit.cx(0, 1)
    assert success_probability(circuit, target) == 0.0


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=25))
@settings(max_examples=30, deadline=None)
def test_success_probability_never_rises_with_more_gates(gates: list[tuple[int, bool]]) -> None:
    from qiskit import QuantumCircuit

    target, circuit, last = line(), QuantumCircuit(3), 1.0
    for qubit, two in gates:
        if two:
            circuit.cx(qubit % 2, qubit % 2 + 1)
        else:
            circuit.sx(qubit)
        now = success_probability(circuit, target)
        assert 0 <= now < last
        last = now


def test_more_layers_succeed_less_often() -> None:
    device, ising = device_named(GENERIC_DEVICE), Ising.from_bqm(asymmetric_problem(5, seed=1))
    chances = [prepare(ising.structure(depth), Compilation(), device).success_probability for depth in (1, 2, 4, 8)]
    assert chances == sorted(chances, reverse=True)
    assert chances[-1] < chances[0]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_the_compiled_circuit_is_the_same_circuit(level: int) -> None:
    """On the device's gates and couplings, with bit i still variable i: equal distributions."""
    from qiskit import QuantumCircuit
    from qiskit.quantum_info import Statevector

    device, ising = device_named(GENERIC_DEVICE), Ising.from_bqm(asymmetric_problem(4, seed=2))
    structure = ising.structure(2)
    prepared = prepare(structure, Compilation(optimization_level=level, seed=3), device)
    angles = ising.angles(np.array([[0.4, 1.1]]), np.array([[0.5, 0.2]]))[0]
    logical = logical_circuit(structure).assign_parameters(angles.tolist()).remove_final_measurements(inplace=False)
    expected = Statevector(logical).probabilities()

    bound = prepared.bind(angles)
    assert bound.num_parameters == 0
    for instruction in bound.data:
        places = tuple(bound.find_bit(qubit).index for qubit in instruction.qubits)
        if len(places) == 2:
            assert places in device.target[instruction.operation.name]
    gates = bound.remove_final_measurements(inplace=False)
    active = sorted({gates.find_bit(qubit).index for at in gates.data for qubit in at.qubits} | set(prepared.measured))
    small = QuantumCircuit(len(active))
    for at in gates.data:
        if at.operation.name != "barrier":
            small.append(at.operation, [active.index(gates.find_bit(qubit).index) for qubit in at.qubits])
    found = Statevector(small).probabilities([active.index(qubit) for qubit in prepared.measured])
    assert np.allclose(found, expected, atol=1e-8)
    assert prepared.logical_two_qubit_gates == 12
    assert prepared.two_qubit_gates >= 24
    assert prepared.depth > prepared.logical_depth


def test_a_circuit_is_compiled_once_per_structure_settings_and_calibration() -> None:
    from qiskit.providers.fake_provider import GenericBackendV2

    structure = Structure(3, (0,), ((0, 1), (1, 2)), 2)
    device, same = (GenericBackendV2(5, seed=1) for _ in range(2))
    drifted = GenericBackendV2(5, seed=2)
    first = prepare(structure, Compilation(), device)
    assert prepare(structure, Compilation(), same) is first
    assert prepare(structure, Compilation(seed=1), device) is not first
    assert calibration_id(drifted.target) != calibration_id(device.target)
    again = prepare(structure, Compilation(), drifted)
    assert again is not first
    assert again.calibration["id"] != first.calibration["id"]


def test_a_layout_is_kept_or_refused() -> None:
    device = device_named(GENERIC_DEVICE)
    structure = Structure(2, (), ((0, 1),), 1)
    a, b = next(iter(device.coupling_map.get_edges()))
    assert prepare(structure, Compilation(layout=(b, a)), device).layout == (b, a)
    for wrong in ((a,), (a, a), (a, 1000)):
        with pytest.raises(BackendError, match="does not place 2 variables") as caught:
            prepare(structure, Compilation(layout=wrong), device)
        assert caught.value.failure_class is FailureClass.CAPABILITY
    with pytest.raises(BackendError, match="19 qubits, the circuit needs 20") as caught:
        worst_case(20, Algorithm(depth=1), device)
    assert caught.value.failure_class is FailureClass.CAPABILITY


def test_calibration_names_what_the_circuit_uses_and_nothing_else() -> None:
    device = device_named(GENERIC_DEVICE)
    prepared = prepare(Structure(3, (0, 2), ((0, 1), (1, 2)), 1), Compilation(), device)
    part, whole = prepared.calibration, calibration_of(device)
    json.dumps([part, whole], allow_nan=False)
    used = {prepared.circuit.find_bit(qubit).index for at in prepared.circuit.data for qubit in at.qubits}
    assert set(part["qubits"]) == {str(qubit) for qubit in used}
    assert set(whole["qubits"]) == {str(qubit) for qubit in range(19)}
    assert part["id"] == whole["id"] == calibration_id(device.target)
    for name, numbers in part["gates"].items():
        gate, *places = name.split()
        known = device.target[gate][tuple(map(int, places))]
        assert numbers == {"error": known.error, "seconds": known.duration}
        assert whole["gates"][name] == numbers
    first = str(min(used))
    assert part["qubits"][first] == {
        "t1_seconds": device.target.qubit_properties[int(first)].t1,
        "t2_seconds": device.target.qubit_properties[int(first)].t2,
        "readout_error": device.target["measure"][(int(first),)].error,
    }


def test_a_real_device_says_when_it_was_calibrated() -> None:
    pytest.importorskip("qiskit_ibm_runtime")
    snapshot = calibration_of(device_named("fake_jakarta"))
    assert snapshot["device"] == "fake_jakarta"
    assert snapshot["time"].startswith("2024-05-27T")
    assert len(snapshot["qubits"]) == 7
    with pytest.raises(BackendError, match="no fake device 'fake_nowhere'"):
        device_named("fake_nowhere")


@pytest.mark.parametrize("variables", [1, 2, 3, 6, 7])
def test_named_coupling_maps(variables: int) -> None:
    """``full`` is the logical circuit of the complete graph; a line needs three CX a pair."""
    structure = Structure(
        variables,
        tuple(range(variables)),
        Ising.from_bqm(asymmetric_problem(variables, seed=0)).edges,
        3,
    )
    circuit = logical_circuit(structure)
    full = estimate_on("full", variables, 3)
    assert full.two_qubit_gates == full.logical_two_qubit_gates == circuit.num_nonlocal_gates()
    assert full.depth >= circuit.depth(lambda at: at.operation.name != "measure")
    for name in ("line", "grid", "heavy-hex"):
        routed = estimate_on(name, variables, 3)  # type: ignore[arg-type]
        assert routed.two_qubit_gates == 3 * full.two_qubit_gates
        assert routed.depth > full.depth
        assert routed.logical_depth == full.depth


@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_swap_network_is_the_same_circuit(n: int, depth: int, seed: int) -> None:
    """On neighbours only, with at most three CX a pair, and bit i is still variable i: equal distributions."""
    from qiskit.quantum_info import Statevector

    rng = np.random.default_rng(seed)
    edges = tuple(pair for pair in itertools.combinations(range(n), 2) if rng.random() < 0.7)
    structure = Structure(n, tuple(i for i in range(n) if rng.random() < 0.7), edges, depth)
    angles = rng.normal(size=structure.parameters).tolist()
    chances = []
    network = swap_network(structure)
    for circuit in (logical_circuit(structure), network):
        bound = circuit.assign_parameters(angles)
        place = {
            bound.find_bit(at.clbits[0]).index: bound.find_bit(at.qubits[0]).index for at in bound.data if at.clbits
        }
        state = Statevector(bound.remove_final_measurements(inplace=False))
        chances.append(state.probabilities([place[variable] for variable in range(n)]))
    assert np.allclose(*chances, atol=1e-9)
    for at in network.data:
        places = [network.find_bit(qubit).index for qubit in at.qubits]
        assert max(places) - min(places) == len(places) - 1
    line_estimate = estimate_on("line", n, depth)
    assert network.num_nonlocal_gates() <= line_estimate.two_qubit_gates
    assert network.depth() <= line_estimate.depth


def test_the_better_of_two_routings_is_taken() -> None:
    """A dense problem on a lattice takes the network, a chain the transpiler's own, a fully coupled device neither."""
    from qiskit.providers.fake_provider import GenericBackendV2

    lattice, coupled = device_named(GENERIC_DEVICE), GenericBackendV2(8, seed=1)
    dense = Ising.from_bqm(asymmetric_problem(8, seed=1)).structure(2)
    chain = Structure(8, (), tuple((i, i + 1) for i in range(7)), 2)
    network = prepare(dense, Compilation(), lattice)
    assert network.routing == "swap network"
    assert network.two_qubit_gates <= estimate_on("heavy-hex", 8, 2).two_qubit_gates
    assert network.success_probability > 0.3
    assert prepare(chain, Compilation(), lattice).routing == "transpiler"
    assert prepare(dense, Compilation(), coupled).routing == "transpiler"


def test_angles_are_chosen_before_the_trip() -> None:
    payload = asymmetric_problem(6, seed=3)
    ising = Ising.from_bqm(payload)
    ramp = tune(payload, ising, Algorithm(depth=3), time.perf_counter() + 60)
    assert (ramp.shots, ramp.circuits) == (5 * 256, 5)
    assert ramp.record["angles_from"] == "local kernel"
    trained = tune(payload, ising, Algorithm(name="qaoa-trained", depth=3), time.perf_counter() + 60)
    assert trained.circuits > ramp.circuits
    assert len(trained.record["training_cvars"]) == trained.circuits - 5
    late = tune(payload, ising, Algorithm(depth=3), time.perf_counter() - 1)
    assert late.record["ramp_length"] == 6.0
    assert late.record["ramp_lengths_left_out"] == [2.0, 4.0, 6.0, 8.0, 12.0]
    json.dumps([ramp.record, trained.record, late.record])


def test_above_the_local_limit_the_middle_ramp_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_device, "TUNED_QUBITS", 3)
    payload = asymmetric_problem(4, seed=3)
    chosen = tune(payload, Ising.from_bqm(payload), Algorithm(depth=3), time.perf_counter() + 60)
    assert (chosen.shots, chosen.circuits) == (0, 0)
    assert "above 3 coupled variables nothing is tuned" in chosen.record["angles_from"]
    assert chosen.gammas == pytest.approx([1.0, 3.0, 5.0])


def test_a_noisy_job_tells_all_about_its_device() -> None:
    payload, backend = asymmetric_problem(4, seed=4), AerNoisy(device=GENERIC_DEVICE)
    envelope = envelope_for(backend, payload, Algorithm(depth=2, shots=400))
    result = backend.result(backend.submit(envelope, payload, "key"))
    assert result.evidence_class is EvidenceClass.EMULATOR
    assert backend.capabilities().tier == "emulator"
    assert result.logical_two_qubit_gates == 12
    assert result.two_qubit_gates > 24
    assert len(result.layout or ()) == 4
    assert result.calibration is not None
    assert result.calibration["device"] == GENERIC_DEVICE
    assert 0.3 < (result.success_probability or 0) < 1
    assert not result.noise_dominated
    payload = asymmetric_problem(7, seed=4)
    deep = envelope_for(backend, payload, Algorithm(depth=20, shots=50, ramp_lengths=(3.0,)))
    assert backend.result(backend.submit(deep, payload, "deep")).noise_dominated


def test_noise_hides_the_minimum() -> None:
    """The same job on the noise-free circuit is better than on the noisy one, on a device as noisy as this."""
    pytest.importorskip("qiskit_ibm_runtime")
    payload, means = asymmetric_problem(6, seed=6), {}
    for backend in (Aer(), AerNoisy(device="fake_jakarta")):
        envelope = envelope_for(backend, payload, Algorithm(depth=3, ramp_lengths=(3.0,)))
        means[backend.name] = backend.result(backend.submit(envelope, payload, "key")).expectation_raw
    offset, scale = Ising.from_bqm(payload).offset, Ising.from_bqm(payload).scale
    assert means["aer"] < offset - scale
    assert means["aer"] + 0.3 * scale < means["aer-noisy"] < offset


def test_what_a_backend_does_not_offer_is_refused() -> None:
    payload = asymmetric_problem(3, seed=7)
    for backend, mitigation, named in (
        (Aer(), Mitigation(readout=True), "readout"),
        (AerNoisy(device=GENERIC_DEVICE), Mitigation(dynamical_decoupling="XY4", twirling=True), "twirling"),
    ):
        envelope = envelope_for(backend, payload, Algorithm(mitigation=mitigation))
        with pytest.raises(BackendError, match=named) as caught:
            backend.submit(envelope, payload, "key")
        assert caught.value.failure_class is FailureClass.CAPABILITY
