"""The YAML beside a file: what is understood, and one sentence for what is not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_assets import registry
from hybrid_assets.problems.base import SourceFile
from hybrid_assets.proposals.prepared import prepare
from hybrid_assets.proposals.rounds import envelope_for
from hybrid_assets.request import Request, Resolved, parse, read_sidecar, resolve, sidecar_of
from resources.circuits.mitigation import declared_symmetry
from resources.envelope import Compilation, Mitigation
from resources.environments import SETTINGS
from resources.failures import InputError
from resources.policy import Policy
from resources.routing import Route


def beside(folder: Path, text: str | bytes, name: str = "data.yaml") -> Path:
    """A data file with this YAML beside it."""
    (folder / "data.txt").write_text("1")
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / "data.txt"


def sentence(path: Path) -> str:
    with pytest.raises(InputError) as error:
        read_sidecar(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mitigation_and_compilation_reach_the_envelope(tmp_path: Path) -> None:
    asked = """
        mitigation: {readout: true, postselect: true, dynamical_decoupling: XY4}
        compilation: {layout: [3, 1], optimization_level: 3}
        symmetry: parity=even
    """
    request = read_sidecar(beside(tmp_path, asked))
    assert parse(json.loads(json.dumps(request.stored())), "again") == request
    resolved = resolve(request, SETTINGS["dev"], ROUTE)
    resolved = Resolved.model_validate_json(resolved.model_dump_json())
    family = registry.family("qubo")
    (raw,) = family.read(SourceFile("q.sparse", b"2 1\n1 2 -1\n", "digest"))
    instance = family.normalize(raw, family.options(), "q")
    envelope = envelope_for(
        instance=instance,
        key="qubo.q",
        resolved=resolved,
        prepared=prepare(family, instance, 16, 0),
        payload_ref="",
        correlation_id="",
        algorithm=SETTINGS["dev"].algorithm,
        jobs=1,
        environment="dev",
    )
    assert envelope.algorithm.mitigation == Mitigation(readout=True, postselect=True, dynamical_decoupling="XY4")
    assert envelope.algorithm.compilation == Compilation(layout=(3, 1), optimization_level=3)
    assert declared_symmetry(envelope.tags) == ("parity", 0)


def test_wrong_mitigation_is_refused(tmp_path: Path) -> None:
    assert "needs a symmetry" in sentence(beside(tmp_path, "mitigation: {postselect: true}"))
    assert "symmetry" in sentence(beside(tmp_path, "symmetry: round"))
    assert "mitigation.magic" in sentence(beside(tmp_path, "mitigation: {magic: true}"))


def test_what_is_asked_for_arrives(tmp_path: Path) -> None:
    request = read_sidecar(
        beside(
            tmp_path,
            """
        owner: "team:risk"
        sensitivity: confidential
        deadline: 2027-01-31
        shots: 512
        budget: 2.5
        best_known: -7
        constraints: {cardinality: 5, start: 2020-01-01, names: [A, B], nested: {x: null}}
    """,
        )
    )
    assert request.stored() == {
        "owner": "team:risk",
        "sensitivity": "confidential",
        "deadline": "2027-01-31",
        "shots": 512,
        "budget": 2.5,
        "best_known": -7.0,
        "constraints": {"cardinality": 5, "start": "2020-01-01", "names": ["A", "B"], "nested": {"x": None}},
    }
    # what is stored is what comes back
    assert parse(json.loads(json.dumps(request.stored())), "again") == request


def test_nothing_beside_is_an_empty_request(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("1")
    assert read_sidecar(tmp_path / "data.txt") == Request()
    assert read_sidecar(beside(tmp_path, "# only a comment\n")) == Request()
    assert Request().stored() == {}
    assert read_sidecar(Path("/")) == Request()


@pytest.mark.parametrize("name", ["data.txt.gz.yaml", "data.txt.yaml", "data.yaml", "data.yml"])
def test_the_yaml_is_found_beside_the_file(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data.txt.gz"
    data.write_text("1")
    (tmp_path / "other.yaml").write_text("shots: 1")
    (tmp_path / "data.yaml.part").write_text("shots: 1")
    assert sidecar_of(data) is None
    (tmp_path / name).write_text("shots: 7")
    assert sidecar_of(data) == tmp_path / name
    assert read_sidecar(data).shots == 7


def test_the_longest_name_wins(tmp_path: Path) -> None:
    data = beside(tmp_path, "shots: 1")
    (tmp_path / "data.txt.yaml").write_text("shots: 2")
    assert read_sidecar(data).shots == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("colour: red", "data.yaml: colour: this key is unknown; use one of algorithm, backend, best_known"),
        ("shots: 0", "data.yaml: shots: input should be greater than or equal to 1 (it is 0)"),
        ("shots: many", "shots: input should be a valid integer"),
        ("budget: .inf", "budget: input should be"),
        ("budget: -1", "budget: input should be greater than 0"),
        ("best_known: .nan", "best_known: input should be a finite number"),
        ("sensitivity: secret", "sensitivity: input should be 'public', 'internal' or 'confidential'"),
        ("deadline: tomorrow", "deadline: input should be a valid date"),
        ("deadline: 2026-13-45", "it is not valid YAML"),
        ("constraints: {min_weight: .nan}", "constraints.min_weight.float: input should be a finite number"),
        ("constraints: {blob: !!binary aGk=}", "constraints.blob"),
        ("constraints: [1, 2]", "constraints: input should be a valid dictionary"),
        ("1: 2", "keys should be strings"),
        ("compilation: {layout: [0, 0]}", "compilation: a layout names another physical qubit"),
        ("compilation: {layout: [0, -1]}", "compilation: a layout names another physical qubit"),
        ("mitigation: {postselect: true}", "mitigation.postselect needs a symmetry: hamming-weight=K, parity=even or"),
        ("- shots\n- 7", "document: it is not a mapping"),
        ("just words", "document: it is not a mapping"),
        ("shots: 1\nshots: 2", "line 2: it is not valid YAML (a key is given twice)"),
        ("shots: [1", "it is not valid YAML"),
        ("a: &a [1]\nb: *a", "line 2: it is not valid YAML (aliases are not allowed)"),
        ("!!python/object/apply:os.system ['true']", "it is not valid YAML"),
        ("[" * 20_000, "it is not valid YAML"),
        ("shots: " + "9" * 5000, "it is not valid YAML"),
        (b"owner: caf\xe9", "it is not valid YAML"),
        (b"owner: \x00", "it is not valid YAML"),
        ("# " + "x" * 70_000, "size: it has more than 64 KB"),
    ],
)
def test_what_is_not_understood_is_one_sentence(tmp_path: Path, text: str | bytes, said: str) -> None:
    found = sentence(beside(tmp_path, text))
    assert said in found
    assert found.startswith("data.yaml: ")
    assert len(found) < 400


def test_every_known_key_is_named_for_an_unknown_one(tmp_path: Path) -> None:
    found = sentence(beside(tmp_path, "bugdet: 3"))
    assert all(key in found for key in Request.model_fields)


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_no_text_at_all_is_an_accident(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = beside(tmp_path_factory.mktemp("yaml"), text.encode("utf-8", errors="replace"))
    try:
        request = read_sidecar(path)
    except InputError:
        return
    json.dumps(request.stored(), allow_nan=False)


ROUTE = Route(
    name="any",
    tier="simulator",
    backend="aer",
    fallback=("lightning", "heuristic"),
    max_qubits=16,
    budget_seconds=3.0,
    queue_seconds=60.0,
    depth=None,
    shots=None,
    cost_ceiling=None,
    priority=0,
    policy_version="p1",
    features=(),
    explanation=(),
)


def test_unset_fields_take_the_route_s_then_the_environment_s_defaults() -> None:
    settings_ = replace(SETTINGS["dev"], owner="team:default")
    empty = resolve(Request(), settings_, ROUTE)
    assert (empty.owner, empty.budget, empty.shots) == ("team:default", 3.0, settings_.algorithm.shots)
    assert (empty.backend, empty.fallback, empty.impact) == ("aer", ("lightning", "heuristic"), "routine")
    routed = resolve(Request(), settings_, replace(ROUTE, shots=99, depth=3))
    assert (routed.shots, routed.depth) == (99, 3)
    asked = resolve(
        Request(
            owner="me",
            budget=1.0,
            shots=7,
            seed=0,
            depth=2,
            algorithm="annealing",
            impact="high",
            sensitivity="public",
        ),
        settings_,
        replace(ROUTE, shots=99, depth=3),
    )
    assert (asked.owner, asked.budget, asked.shots, asked.seed, asked.depth) == ("me", 1.0, 7, 0, 2)
    assert (asked.algorithm, asked.impact, asked.sensitivity) == ("annealing", "high", "public")
    # a seed of zero is a seed
    seeded = replace(settings_, algorithm=settings_.algorithm.model_copy(update={"seed": 5}))
    assert resolve(Request(seed=0), seeded, ROUTE).seed == 0
    assert resolve(Request(), seeded, ROUTE).seed == 5


def test_a_new_version_of_the_policy_alone_asks_for_nothing_else() -> None:
    answered = resolve(Request(), SETTINGS["dev"], ROUTE)
    assert not answered.differs(resolve(Request(), SETTINGS["dev"], replace(ROUTE, policy_version="p2")))
    assert answered.differs(resolve(Request(), SETTINGS["dev"], replace(ROUTE, backend="lightning")))
    assert answered.differs(resolve(Request(), SETTINGS["dev"], replace(ROUTE, budget_seconds=4.0)))
    changed = replace(SETTINGS["dev"], algorithm=SETTINGS["dev"].algorithm.model_copy(update={"cvar_alpha": 0.5}))
    assert answered.decided_under(Policy(version="p1"), SETTINGS["dev"])
    assert not answered.decided_under(Policy(version="p2"), SETTINGS["dev"])
    assert not answered.decided_under(Policy(version="p1"), changed)
    assert answered.differs(resolve(Request(), changed, ROUTE)), "what is not in the request changes the answer too"


def test_what_issue_2_stored_can_still_be_read() -> None:
    before = {"owner": "me", "sensitivity": "public", "deadline": None, "backend": "aer", "algorithm": None}
    numbers = {"depth": 10, "shots": 1024, "seed": 0, "budget": 5.0, "max_qubits": 16, "repetitions": 3}
    assert Resolved.model_validate(before | numbers).fallback == ()
