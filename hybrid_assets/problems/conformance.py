"""Conformance suite of the ``ProblemFamily`` seam, to be run by anybody on a family of their own.

Subclass ``FamilyConformance`` in a test module and implement ``family`` and ``examples``; any test runner that collects
``test_*`` methods does the rest (nothing here needs one)::

    class TestMyFamily(FamilyConformance):
        def family(self):
            return MyFamily()

        def examples(self):
            return [b"3 2\\n1 2 1\\n2 3 1\\n"]

Here: what every family must do, whatever its problem. Not here: tests of one family's formats and messages.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence

import numpy as np
from pydantic import ValidationError

from hybrid_assets import registry
from hybrid_assets.problems.base import Evaluation, Instance, ProblemFamily, Program, Solution
from hybrid_assets.problems.source import SourceFile
from resources.envelope import PostProcessing, canonical_json
from resources.failures import InputError

#: Content that no family may claim, and that every reader must refuse in one sentence.
_JUNK = (
    b"\n",
    b"hello, world\n",
    b"\x00\x01\x02\xff" * 50,
    b"\xff\xfe\xfa" * 50,
    b"{}",
    b"[1, 2",
    b"<html><body>404</body></html>",
    b"1e308 1e308\n1e308 nan\n",
    "größe;maß\n".encode(),
)
_DRAWS = 60


def source(content: bytes, name: str = "input") -> SourceFile:
    """A source file that was never on a disk."""
    return SourceFile(name, content, hashlib.sha256(content).hexdigest())


class FamilyConformance:
    """The suite; takes seconds on examples of 4 to 20 variables."""

    def family(self) -> ProblemFamily:
        """A new family."""
        raise NotImplementedError("implement family() so that it returns a new family")

    def examples(self) -> Sequence[bytes]:
        """Contents of small valid files (4 to 20 variables), at least one per format."""
        raise NotImplementedError("implement examples() so that it returns the contents of small valid files")

    # -- helpers -------------------------------------------------------------------------------------------------

    def instances(self) -> Iterator[tuple[ProblemFamily, Instance, Program]]:
        """Every instance of every example, with default options."""
        family = self.family()
        for number, content in enumerate(self.examples()):
            for raw in family.read(source(content)):
                instance = family.normalize(raw, family.options(), f"example-{number}")
                yield family, instance, family.model(instance)

    @staticmethod
    def _well_formed(family: ProblemFamily, instance: Instance, solution: Solution) -> None:
        assert solution.values.shape == (instance.size,)
        again = family.evaluate(instance, solution.values)
        assert again == solution.evaluation, "evaluate() must give what complete() reported"
        assert math.isfinite(again.objective)

    @staticmethod
    def _one_sentence(error: InputError) -> None:
        assert "\n" not in str(error)
        assert len(str(error)) < 600

    @staticmethod
    def _no_worse(instance: Instance, left: Evaluation, right: Evaluation) -> bool:
        slack = 1e-9 * max(1e-9, abs(right.objective))
        sign = -1.0 if instance.sense == "max" else 1.0
        return sign * (left.objective - right.objective) <= slack and len(left.violations) <= len(right.violations)

    # -- reading -------------------------------------------------------------------------------------------------

    def test_is_described(self) -> None:
        """Name, version and title are set, and options of the family have defaults."""
        family = self.family()
        assert family.name
        assert family.version
        assert family.title
        assert family.rounds >= 1
        assert family.scored_candidates >= 1
        json.dumps(family.options().model_dump(mode="json"))

    def test_recognises_its_formats_by_content(self) -> None:
        """Each example is recognised whatever its name is, and reading it gives at least one instance."""
        family = self.family()
        for content in self.examples():
            for name in ("input", "input.csv", "Ünïcode.qubo", "x"):
                assert family.recognises(source(content, name)) is True
            assert len(family.read(source(content))) >= 1

    def test_claims_no_junk(self) -> None:
        """Junk is neither recognised nor read; reading it is refused with an ``InputError``."""
        family = self.family()
        for content in _JUNK:
            assert family.recognises(source(content)) is False, content
            try:
                for raw in family.read(source(content)):
                    family.normalize(raw, family.options(), "junk")
            except InputError as error:
                self._one_sentence(error)
            else:
                raise AssertionError(f"{content!r} was read as {family.name}")

    def test_damaged_files_end_in_one_sentence(self) -> None:
        """Cut, doubled and overwritten files are read or refused with a one-line ``InputError``, nothing else."""
        family = self.family()
        rng = np.random.default_rng(0)
        for content in self.examples():
            damaged = [content[: len(content) * k // 7] for k in range(1, 7)] + [content + content]
            for wrong in (b"nan", b"-1", b"1e308", b"\xff", b"x", b"\x00"):
                for _ in range(4):
                    at = int(rng.integers(0, len(content)))
                    damaged.append(content[:at] + wrong + content[at + len(wrong) :])
            for attempt in damaged:
                family.recognises(source(attempt))
                try:
                    for raw in family.read(source(attempt)):
                        instance = family.normalize(raw, family.options(), "damaged")
                        assert all(np.isfinite(a).all() for a in instance.arrays.values())
                except InputError as error:
                    self._one_sentence(error)

    def test_instances_are_complete_and_stable(self) -> None:
        """Finite arrays, JSON-able settings, one label per variable, equal digests for equal content, round trip."""
        digests = [instance.digest for _, instance, _ in self.instances()]
        for (family, instance, _), digest in zip(self.instances(), digests, strict=True):
            assert instance.family == family.name
            assert instance.size >= 1
            assert instance.sense in ("min", "max")
            assert len(instance.labels) == instance.size
            assert all(np.isfinite(a).all() for a in instance.arrays.values())
            assert instance.digest == digest
            canonical_json(dict(instance.settings))
            canonical_json(dict(family.constraints(instance)))
            again = Instance.from_bytes(instance.to_bytes())
            assert again.digest == digest
            assert again.name == instance.name
            assert instance.to_bytes() == again.to_bytes()

    def test_unknown_options_are_refused(self) -> None:
        """A key that the family does not know is an error, not ignored."""
        try:
            self.family().options.model_validate({"no such option": 1})
        except ValidationError:
            return
        raise AssertionError("an unknown option was accepted")

    # -- model ---------------------------------------------------------------------------------------------------

    def test_program_is_binary_and_deterministic(self) -> None:
        """Variables are the binaries 0 … n-1 in order, coefficients finite, digests equal."""
        import dimod

        for family, instance, program in self.instances():
            variables = list(program.cqm.variables)
            assert variables == list(range(len(variables)))
            assert all(program.cqm.vartype(v) is dimod.BINARY for v in variables)
            assert all(math.isfinite(bias) for _, bias in program.cqm.objective.iter_linear())
            assert all(math.isfinite(bias) for *_, bias in program.cqm.objective.iter_quadratic())
            assert program.form
            assert family.model(instance).digest == program.digest

    def test_random_assignments(self) -> None:
        """They satisfy the program, are reproducible, differ between seeds and keep fixed variables."""
        for family, instance, program in self.instances():
            count = len(program.cqm.variables)
            draws = family.random_assignments(instance, _DRAWS, 1)
            assert draws.shape == (_DRAWS, count)
            assert draws.dtype == np.int8
            assert np.array_equal(draws, family.random_assignments(instance, _DRAWS, 1))
            if len(np.unique(draws, axis=0)) > 1:
                assert not np.array_equal(draws, family.random_assignments(instance, _DRAWS, 2))
            for draw in draws:
                assert program.cqm.check_feasible(dict(enumerate(draw.tolist())))
            free = np.arange(count // 2, count)
            kept = family.random_assignments(instance, _DRAWS, 3, free=free, base=draws[0])
            assert np.array_equal(kept[:, : count // 2], np.tile(draws[0][: count // 2], (_DRAWS, 1)))
            for draw in kept:
                assert program.cqm.check_feasible(dict(enumerate(draw.tolist())))

    def test_feasible_assignments_complete_without_repair(self) -> None:
        """A feasible assignment gives a feasible, raw solution, whose own assignment completes no worse."""
        for family, instance, _ in self.instances():
            for draw in family.random_assignments(instance, _DRAWS, 4):
                given = draw.copy()
                solution = family.complete(instance, draw)
                assert np.array_equal(given, draw), "complete() must not change its argument"
                self._well_formed(family, instance, solution)
                assert solution.evaluation.feasible
                assert solution.post_processing is PostProcessing.RAW
                behind = family.assignment(instance, solution.values)
                assert behind.shape == draw.shape
                assert behind.dtype == np.int8
                assert self._no_worse(instance, family.complete(instance, behind).evaluation, solution.evaluation)

    def test_any_bits_complete(self) -> None:
        """Any bits give a well-formed solution; where they broke a constraint it is not called raw."""
        rng = np.random.default_rng(5)
        for family, instance, program in self.instances():
            count = len(program.cqm.variables)
            extremes = np.array([np.zeros(count), np.ones(count)], dtype=np.int8)
            for bits in np.vstack([extremes, rng.integers(0, 2, (_DRAWS, count), dtype=np.int8)]):
                solution = family.complete(instance, bits)
                self._well_formed(family, instance, solution)
                if solution.evaluation.feasible and not program.cqm.check_feasible(dict(enumerate(bits.tolist()))):
                    assert solution.post_processing is not PostProcessing.RAW

    def test_low_energies_are_good_candidates(self) -> None:
        """Over random feasible assignments, program energy and objective rank alike (Spearman above 0.2)."""
        from scipy.stats import spearmanr

        for family, instance, program in self.instances():
            draws = family.random_assignments(instance, 200, 6)
            energies = program.energies(draws)
            sign = -1.0 if instance.sense == "max" else 1.0
            objectives = [sign * family.complete(instance, d).evaluation.objective for d in draws]
            if np.ptp(energies) > 0 and np.ptp(objectives) > 0:
                assert spearmanr(energies, objectives).statistic > 0.2

    def test_exact_programs_bound_their_families(self) -> None:
        """Where the program counts as exact, no solution is worse than its assignment's energy, and its own assignment
        costs no more than the solution: the two optima are one."""
        for family, instance, program in self.instances():
            if not family.exact_program:
                continue
            sign = -1.0 if instance.sense == "max" else 1.0
            for draw in family.random_assignments(instance, _DRAWS, 10):
                solution = family.complete(instance, draw)
                behind = family.assignment(instance, solution.values)
                assert program.cqm.check_feasible(dict(enumerate(behind.tolist())))
                before, after = program.energies(np.stack([draw, behind]))
                objective = sign * solution.evaluation.objective
                slack = 1e-9 * max(1.0, abs(objective))
                assert after - slack <= objective <= before + slack

    def test_reference(self) -> None:
        """The point for narrowing is feasible and reproducible, with a finite priority per variable."""
        for family, instance, program in self.instances():
            found, again = (family.reference(instance, program, 7) for _ in range(2))
            assert found.assignment.shape == found.priority.shape == (len(program.cqm.variables),)
            assert np.isfinite(found.priority).all()
            assert found.method
            assert program.cqm.check_feasible(dict(enumerate(found.assignment.tolist())))
            assert np.array_equal(found.assignment, again.assignment)
            assert np.array_equal(found.priority, again.priority)

    def test_refine_keeps_the_layout(self) -> None:
        """Later rounds have the same variables and constraints; families with one round refine nothing."""
        for family, instance, program in self.instances():
            draws = family.random_assignments(instance, _DRAWS, 8)
            sign = -1.0 if instance.sense == "max" else 1.0
            ranked = sorted((family.complete(instance, d) for d in draws), key=lambda s: sign * s.evaluation.objective)
            refined = family.refine(instance, 1, ranked)
            if family.rounds == 1:
                assert refined is None
            if refined is None:
                continue
            assert list(refined.cqm.variables) == list(program.cqm.variables)
            assert set(refined.cqm.constraints) == set(program.cqm.constraints)
            for draw in draws:
                assert refined.cqm.check_feasible(dict(enumerate(draw.tolist())))
            assert family.refine(instance, 1, ranked).digest == refined.digest  # type: ignore[union-attr]
            assert family.refine(instance, 1, []) is None

    # -- comparison and pictures ---------------------------------------------------------------------------------

    def test_baselines_are_registered(self) -> None:
        """There is at least one baseline, and every one supports the family."""
        for family, instance, _ in self.instances():
            names = family.baselines(instance)
            assert len(names) >= 1
            assert len(set(names)) == len(names)
            for name in names:
                assert registry.solver(name).supports(family.name)

    def test_pictures(self) -> None:
        """Both pictures can be drawn as PNG, without pyplot's global state."""
        import io

        for family, instance, _ in self.instances():
            one, two = (family.complete(instance, d).values for d in family.random_assignments(instance, 2, 9))
            solutions = {"accepted": one, "quantum": one, "classical": two}
            for figure in (family.plot_instance(instance), family.plot_solution(instance, solutions)):
                buffer = io.BytesIO()
                figure.savefig(buffer, format="png", dpi=40)
                assert buffer.getvalue().startswith(b"\x89PNG")
