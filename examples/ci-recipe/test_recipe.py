"""The recipe must not lose what the base knows: `pytest examples/ci-recipe`."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.sftbench(baseline="baseline.parquet")
def test_the_recipe_keeps_what_the_base_knows(sftbench_finetune, sftbench_gate):
    tuned = sftbench_finetune(HERE / "recipe.yaml", base="lab", facts="lab", seed=7)
    sftbench_gate(tuned)
