"""``hybrid measure``: programs from files, their route, and their way through the control plane."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid_assets.measuring import key_of, read_program, with_errors
from resources import assembly
from resources.backends.conformance_programs import asymmetric_program, exact_values
from resources.circuits.pauli import PauliProgram
from resources.failures import InputError
from resources.home import PROJECT
from tests.unit.test_control_cli import Hybrid, hybrid, work

__all__ = ["hybrid"]

POLICY = """
version: t
routes:
  - {name: small, when: {families: [circuits]}, then: {backends: [annealer, lightning, aer], fallback: [heuristic]}}
  - {name: all, then: {backends: [annealer]}}
approval: {impact: [high]}
"""


@pytest.fixture(autouse=True)
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "circuits.yaml").write_text(POLICY)
    monkeypatch.setenv("HYBRID_POLICY", str(tmp_path / "circuits.yaml"))


@pytest.fixture
def measure(hybrid: Hybrid, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hybrid:
    monkeypatch.setenv("HYBRID_POLICY", str(tmp_path / "circuits.yaml"))
    return hybrid


def stored(folder: Path, program: PauliProgram | dict[str, Any], name: str = "some.json") -> str:
    text = program.to_bytes().decode() if isinstance(program, PauliProgram) else json.dumps(program)
    (folder / name).write_text(text)
    return str(folder / name)


@pytest.mark.parametrize("kind", ["estimate", "kernel"])
def test_values_come_with_errors_evidence_and_a_job(measure: Hybrid, tmp_path: Path, kind: Any) -> None:
    program = asymmetric_program(kind)
    said = measure("measure", stored(tmp_path, program), "--json", "--shots", "2000", "--seed", "3")
    assert said.code == 0, said.err
    answer = json.loads(said.out)
    values, errors = np.array(answer["values"]), np.array(answer["standard_errors"])
    assert (np.abs(values - exact_values(program, kind)) <= 5 * errors + 1e-9).all()
    # the annealer offers no such job, and nothing classical stands in
    assert (answer["kind"], answer["evidence_class"], answer["backend"]) == (kind, "simulator", "lightning")
    job = work().ledger.job(answer["job"])
    assert (job.state, job.instance, json.loads(job.fallback_path)) == ("succeeded", "circuits.some", [])
    shown = measure("measure", stored(tmp_path, program), "--shots", "2000", "--seed", "3")
    assert answer["job"] in shown.out
    assert with_errors(answer["values"][0], answer["standard_errors"][0])[0] in shown.out
    again = measure("replay", answer["job"], "--reason", "once more", "--backend", "aer")
    assert (again.code, "aer" in again.out) == (0, True)


def test_a_molecule_has_its_energy(measure: Hybrid) -> None:
    said = measure("measure", str(PROJECT / "examples" / "h2.json"), "--json", "--shots", "4000")
    energies = [row[0] for row in json.loads(said.out)["values"]]
    # the ground state of the matrix is at -1.13726 Hartree
    assert energies[3] == pytest.approx(-1.13726, abs=0.02)
    assert min(energies) in energies[2:]
    assert energies[0] > -1.0


def test_what_needs_a_person_waits(measure: Hybrid, tmp_path: Path) -> None:
    file = stored(tmp_path, asymmetric_program("kernel"))
    Path(file).with_suffix(".yaml").write_text("impact: high\nowner: team:chemistry\n")
    said = measure("measure", file)
    assert said.code == 1
    assert "awaiting_approval; `hybrid jobs --waiting` says why" in said.err
    (job,) = work().ledger.jobs(state="awaiting_approval")
    assert job.owner == "team:chemistry"
    assert measure("approve", job.job_id, "--reason", "go").code == 0
    assert job.job_id in measure("measure", file).out


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ({"initial": [0], "rotations": [{"pauli": "Q"}]}, ["some.json", "rotations.0.pauli"]),
        ({"initial": [0]}, ["some.json", "at least two rows"]),
        ({"initial": [0], "angles": []}, ["some.json", "angles", "unknown"]),
        ({"initial": [0], "rows": [[1], [1, 2]]}, ["some.json: rows: ", "same number of parameters; correct rows."]),
        (
            {"initial": [0], "rotations": [{"pauli": "XX"}]},
            ["some.json: rotations: every Pauli string must have 1 letters, one per qubit; correct rotations."],
        ),
        ({"initial": [0] * 40, "rows": [[], []]}, ["takes", "qubits, the program has 40"]),
    ],
)
def test_a_wrong_program_is_one_sentence_and_leaves_nothing(
    measure: Hybrid, tmp_path: Path, program: dict[str, Any], words: list[str]
) -> None:
    said = measure("measure", stored(tmp_path, program))
    assert said.code in (1, 2)
    assert all(word in said.err for word in words), said.err
    assert said.err.strip().count("\n") == 0
    assert work().ledger.jobs() == []


@pytest.mark.parametrize(
    "asked", ["constraints: {cardinality: 3}", "best_known: 3", "trips: 2", "symmetry: parity=odd"]
)
def test_what_says_nothing_about_a_program_is_refused(measure: Hybrid, tmp_path: Path, asked: str) -> None:
    file = stored(tmp_path, asymmetric_program("kernel"))
    Path(file).with_suffix(".yaml").write_text(asked)
    said = measure("measure", file)
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"{asked.split(':')[0]}: it says nothing about a program of circuits" in said.err
    assert work().ledger.jobs() == []


def test_a_backend_that_the_route_passes_by_is_named_with_its_reason(measure: Hybrid, tmp_path: Path) -> None:
    said = measure("measure", stored(tmp_path, asymmetric_program("kernel")))
    assert "backend annealer: passed by, it offers sample jobs, this is kernel\n" in said.out
    # what comes after the one that was taken is no reason for it
    assert said.out.count("passed by") == 1


@pytest.mark.parametrize("text", ["", '{"initial": [1,', "\x00"])
def test_what_is_no_json_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "some.json").write_text(text)
    with pytest.raises(InputError, match=r"^some\.json: line 1 column \d+: it is not valid JSON \(.*\); write one"):
        read_program(tmp_path / "some.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json"):
        read_program(tmp_path / "none.json")
    assert key_of(Path("My file (2).json")) == "circuits.my-file--2"


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOSPC])
def test_a_disk_that_takes_nothing_is_one_sentence(
    measure: Hybrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def full(*_: object) -> str:
        raise OSError(code, os.strerror(code), "artifacts/85")

    file = stored(tmp_path, asymmetric_program("kernel"))
    monkeypatch.setattr(type(work().artifacts), "put", full)
    said = measure("measure", file)
    assert (said.code, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(f"artifacts/85: it cannot be used ({os.strerror(code).lower()})")


def test_digits_follow_the_error() -> None:
    assert with_errors([-1.13579, 0.5, 12.3456], [0.0060, 0.0, 3.2]) == ["-1.1358 ± 0.0060", "0.5000", "12.3 ± 3.2"]


def test_another_machine_of_a_backend_is_another_job(
    measure: Hybrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, jobs = stored(tmp_path, asymmetric_program("kernel")), []
    for device in ("default.qubit", "lightning.qubit", "default.qubit"):
        monkeypatch.setenv("HYBRID_PENNYLANE_DEVICE", device)
        # as in a process of its own
        assembly._dispatcher.cache_clear()
        said = measure("measure", file, "--backend", "pennylane", "--json")
        answer = json.loads(said.out)
        assert answer["parameters"]["device"] == device
        jobs.append(answer["job"])
    assert jobs[0] == jobs[2] != jobs[1]
