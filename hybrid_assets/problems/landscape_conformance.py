"""Conformance suite of the ``Landscape`` seam, to be run by anybody on a family of their own.

Subclass ``LandscapeConformance`` in a test module and implement ``cases`` (instances of 6 to 60 decisions); any runner
that collects ``test_*`` methods does the rest.

Here: what every landscape must do. Not here: tests of one neighbourhood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from hybrid_assets.problems.base import Instance, ProblemFamily
from hybrid_assets.problems.landscape import Block, Landscape, State, random_bits

#: Blocks of each neighbourhood that are looked at.
_BLOCKS = 12


class LandscapeConformance:
    """The suite; takes seconds."""

    def cases(self) -> Sequence[tuple[ProblemFamily, Instance]]:
        """Families with small instances."""
        raise NotImplementedError("implement cases() so that it returns (family, instance) pairs")

    # -- helpers -------------------------------------------------------------------------------------------------

    def walks(self) -> Iterator[tuple[ProblemFamily, Instance, Landscape]]:
        """Every case with its landscape."""
        for family, instance in self.cases():
            landscape = family.landscape(instance)
            assert landscape is not None, f"{family.name} has no landscape"
            yield family, instance, landscape

    @staticmethod
    def _cost(family: ProblemFamily, instance: Instance, landscape: Landscape, state: State) -> float:
        objective = family.evaluate(instance, landscape.values(state)).objective
        return -objective if instance.sense == "max" else objective

    @staticmethod
    def _close(left: float, right: float) -> bool:
        return abs(left - right) <= 1e-6 * max(1.0, abs(left), abs(right))

    def _blocks(self, landscape: Landscape, state: State, size: int = 8) -> Iterator[Block]:
        for kind in landscape.kinds:
            for seed in range(_BLOCKS):
                block = landscape.block(state, kind, size, np.random.default_rng(seed))
                if block is not None:
                    yield block

    # -- states --------------------------------------------------------------------------------------------------

    def test_starts_are_feasible_and_reproducible(self) -> None:
        """A start's cost is its objective, equal seeds give equal starts, ``state_of`` finds the state again."""
        for family, instance, landscape in self.walks():
            state, again = landscape.start(3), landscape.start(3)
            assert np.array_equal(state.data, again.data)
            assert state.digest == again.digest
            values = landscape.values(state)
            assert values.shape == (instance.size,)
            assert state.feasible == family.evaluate(instance, values).feasible
            if state.feasible:
                assert self._close(state.cost, self._cost(family, instance, landscape, state))
            assert self._close(landscape.state_of(values).cost, state.cost)

    # -- blocks --------------------------------------------------------------------------------------------------

    def test_blocks_are_well_formed(self) -> None:
        """Shapes, finite terms, disjoint groups that the current bits satisfy, at least one block per instance."""
        for _, _, landscape in self.walks():
            state, found = landscape.start(0), 0
            for block in self._blocks(landscape, state):
                found += 1
                q = block.size
                assert 2 <= q <= 8
                assert block.kind in landscape.kinds
                assert block.linear.shape == block.current.shape == (q,)
                assert block.couplings.shape == (q, q)
                assert not np.tril(block.couplings).any()
                assert np.isfinite(block.linear).all()
                assert np.isfinite(block.couplings).all()
                assert np.isfinite(block.offset)
                members = [i for group in block.groups for i in group]
                assert len(set(members)) == len(members)
                assert block.allowed(block.current[None, :]).all()
                assert all(len(term) >= 3 and list(term) == sorted(set(term)) for term in block.higher)
            assert found, f"{type(landscape).__name__} offered no block"

    def test_blocks_are_reproducible(self) -> None:
        """The same generator gives the same block."""
        for _, _, landscape in self.walks():
            state = landscape.start(1)
            for one, two in zip(self._blocks(landscape, state), self._blocks(landscape, state), strict=True):
                assert np.array_equal(one.linear, two.linear)
                assert np.array_equal(one.couplings, two.couplings)
                assert np.array_equal(one.current, two.current)

    def test_nothing_changes_with_the_current_bits(self) -> None:
        """The current bits leave the state as it is, and no step changes the state that it was given."""
        for _, _, landscape in self.walks():
            state = landscape.start(2)
            before = state.data.copy()
            for block in self._blocks(landscape, state):
                assert landscape.apply(state, block, block.current).state.digest == state.digest
                landscape.apply(state, block, random_bits(block, 1, np.random.default_rng(0))[0])
                assert np.array_equal(before, state.data)

    def test_steps_lead_to_what_they_say(self) -> None:
        """After any bits the cost is that of the values; where the block is exact and nothing was repaired, energy
        differences are cost differences."""
        for family, instance, landscape in self.walks():
            state = landscape.start(4)
            for block in self._blocks(landscape, state):
                start = float(block.energies(block.current[None, :])[0])
                for bits in random_bits(block, 6, np.random.default_rng(1)):
                    given = bits.copy()
                    step = landscape.apply(state, block, bits)
                    assert np.array_equal(given, bits)
                    assert step.evaluations >= 0
                    new = step.state
                    assert new.feasible == family.evaluate(instance, landscape.values(new)).feasible
                    if new.feasible:
                        assert self._close(new.cost, self._cost(family, instance, landscape, new))
                    if block.exact and not step.repaired and state.feasible and new.feasible:
                        energy = float(block.energies(bits[None, :])[0])
                        assert self._close(energy - start, new.cost - state.cost), block.kind

    def test_polish_never_loses(self) -> None:
        """A polished state is feasible and no worse; the same state gives the same answer."""
        for family, instance, landscape in self.walks():
            state = landscape.start(5)
            one, two = landscape.polish(state, 2_000), landscape.polish(state, 2_000)
            assert one.state.digest == two.state.digest
            assert one.state.cost <= state.cost + 1e-9 * max(1.0, abs(state.cost))
            if one.state.feasible:
                assert self._close(one.state.cost, self._cost(family, instance, landscape, one.state))

    def test_shaking_moves(self) -> None:
        """Some of several shakes lead elsewhere."""
        for _, _, landscape in self.walks():
            state = landscape.start(6)
            assert any(
                landscape.shaken(state, np.random.default_rng(seed)).digest != state.digest for seed in range(20)
            )
