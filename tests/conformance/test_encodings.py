"""Every registered encoding against every rule, and rules that notice encodings which are wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from hybrid_assets import registry
from hybrid_assets.encodings import conformance
from hybrid_assets.encodings.base import EncodedProblem
from hybrid_assets.encodings.penalty import Penalty
from hybrid_assets.problems.base import Program
from resources.failures import InvariantError

PROGRAMS = conformance.programs(seed=0)


@pytest.mark.parametrize("rule", conformance.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
@pytest.mark.parametrize("name", registry.names("encodings"))
def test_rule(name: str, program: Program, rule: conformance.Rule) -> None:
    encoding = registry.encoding(name)
    if encoding.accepts(program):
        rule(encoding, program, 0)


@pytest.mark.parametrize("name", registry.names("encodings"))
def test_other_seeds(name: str) -> None:
    assert sum(conformance.check(registry.encoding(name), seed) for seed in (1, 2, 3)) > 0


def test_every_program_is_accepted_by_some_encoding_and_exactly_where_it_can_be() -> None:
    exact = {
        name: [n for n in registry.names("encodings") if registry.encoding(n).exact and registry.encoding(n).accepts(p)]
        for name, p in PROGRAMS.items()
    }
    assert [name for name, found in exact.items() if not found] == ["fractions"]
    assert registry.encoding("discretised").accepts(PROGRAMS["fractions"])
    assert {"domain-wall", "one-hot-xy", "penalty", "quadratized"} <= set(exact["one and a limit"])
    assert exact["one of each, higher"] == ["quadratized"]


class Weak(Penalty):
    def encode(self, program: Program) -> EncodedProblem:
        return self.weighted(program, 1e-9)


class Forgetful(Penalty):
    def decode(self, encoded: EncodedProblem, bits: np.ndarray) -> np.ndarray:
        return np.zeros(encoded.program_variables, dtype=np.int8)


class Lazy(Penalty):
    def embed(self, encoded: EncodedProblem, assignment: np.ndarray) -> np.ndarray:
        bits = super().embed(encoded, assignment)
        bits[encoded.program_variables :] = 0
        return bits


class Moody(Penalty):
    draws: ClassVar[Any] = np.random.default_rng(0)

    def encode(self, program: Program) -> EncodedProblem:
        return self.weighted(program, 1e6 * (1 + self.draws.random()))


class Shifted(Penalty):
    def encode(self, program: Program) -> EncodedProblem:
        encoded = super().encode(program)
        bqm = encoded.bqm.copy()
        bqm.offset += 1.0
        return replace(encoded, bqm=bqm)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (Weak, conformance.optimum_preserved),
        (Weak, conformance.audited),
        (Forgetful, conformance.round_trip),
        (Lazy, conformance.embedding_is_lowest),
        (Lazy, conformance.energy),
        (Moody, conformance.deterministic),
        (Shifted, conformance.energy),
        (Shifted, conformance.audited),
    ],
)
def test_wrong_encodings_are_noticed(wrong: type[Penalty], rule: conformance.Rule) -> None:
    def apply() -> None:
        for program in PROGRAMS.values():
            if wrong().accepts(program):
                rule(wrong(), program, 0)

    with pytest.raises(InvariantError):
        apply()
