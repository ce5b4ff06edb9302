"""What set-up compiles: every family that is registered here has its example."""

from hybrid_assets import registry
from hybrid_assets.compiling import EXAMPLES


def test_every_family_of_this_project_is_compiled() -> None:
    mine = {n for n in registry.names("families") if type(registry.family(n)).__module__.startswith("hybrid_assets.")}
    assert set(EXAMPLES) == mine
