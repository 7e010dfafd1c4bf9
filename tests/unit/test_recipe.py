"""Recipes: the paper's defaults, YAML and flags, and errors that name file and field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sftbench.common.errors import SftbenchError
from sftbench.recipes.recipe import Recipe, load_recipe

pytestmark = pytest.mark.unit


def _written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_papers_recipe() -> None:
    recipe = Recipe()
    stated = {
        "batch_size": 8,
        "epochs": 1,
        "optimizer": "adamw",
        "schedule": "cosine",
        "learning_rate": 1e-5,
        "prompt": "paper",
        "domain": "in",
    }
    assert recipe.model_dump(include=set(stated)) == stated
    assert (recipe.loss, recipe.precision, recipe.save_dtype) == ("answer", "fp32", "float32")
    assert (recipe.warmup, recipe.weight_decay, recipe.gradient_checkpointing) == (0, 0, False)


def test_flags_go_over_yaml_and_yaml_over_defaults(tmp_path: Path) -> None:
    path = _written(tmp_path, "learning_rate: 2e-5\nsize: 60\nlevel: 2\n")
    recipe = load_recipe(path, {"size": 120, "seed": None, "level": "4"})
    assert recipe == Recipe(learning_rate=2e-5, size=120, level=4)


def test_a_recipe_survives_yaml(tmp_path: Path) -> None:
    recipe = Recipe(level="any", size=12, adam_beta2=0.95, loss="full", save_dtype="bfloat16")
    path = _written(tmp_path, yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(path) == recipe


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    assert load_recipe(_written(tmp_path, "# nothing\n")) == Recipe() == load_recipe()


def test_digest_follows_every_field_and_nothing_else() -> None:
    changes: dict[str, Any] = {
        "level": 2, "size": 60, "domain": "out", "seed": 1, "prompt": "fewshot", "loss": "full",
        "batch_size": 4, "epochs": 2, "learning_rate": 2e-5, "schedule": "linear", "warmup": 0.1,
        "weight_decay": 0.1, "adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-6,
        "max_grad_norm": 0.0, "gradient_checkpointing": True, "save_dtype": "bfloat16",
    }  # fmt: skip
    assert set(Recipe.model_fields) - set(changes) == {"optimizer", "precision"}  # one value each
    digests = {load_recipe(None, {name: value}).digest for name, value in changes.items()}
    assert len(digests | {Recipe().digest}) == len(changes) + 1
    assert load_recipe(None, {"learning_rate": "1e-5", "level": "mixed"}).digest == Recipe().digest


def test_a_recipe_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Recipe().size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("learning_rte: 1e-4", "learning_rte", "Did you mean learning_rate?"),
        ("zzz: 1", "zzz", "Its fields are: level, size"),
        ("learning_rate: fast", "learning_rate", "'fast'"),
        ("learning_rate: 0", "learning_rate", "greater than 0"),
        ("learning_rate: .nan", "learning_rate", "finite"),
        ("learning_rate: .inf", "learning_rate", "finite"),
        ("level: 5", "level", "'mixed'"),
        ("level: true", "level", "'mixed'"),
        ("level: [2]", "level", "'mixed'"),
        ("size: 0", "size", "greater than or equal to 1"),
        ("size: true", "size", "valid integer"),
        ("size: 2.5", "size", "valid integer"),
        ("batch_size: '8'", "batch_size", "valid integer"),
        ("seed: -1", "seed", "greater than or equal to 0"),
        ("seed: 4294967296", "seed", "4294967295"),
        ("warmup: .nan", "warmup", "finite"),
        ("warmup: 1", "warmup", "less than 1"),
        ("loss: answers", "loss", "'answer' or 'full'"),
        ("gradient_checkpointing: 1", "gradient_checkpointing", "boolean"),
        ("save_dtype: float8", "save_dtype", "'bfloat16'"),
        ("precision: bf16", "precision", "'fp32'"),
    ],
)
def test_a_bad_field_is_named_with_its_file(
    tmp_path: Path, line: str, key: str, message: str
) -> None:
    path = _written(tmp_path, f"epochs: 1\n{line}\n")
    with pytest.raises(SftbenchError) as caught:
        load_recipe(path)
    assert caught.value.where == f"{path}: {key}"
    assert message in str(caught.value)


def test_a_bad_flag_is_named_as_a_flag_even_beside_a_file(tmp_path: Path) -> None:
    path = _written(tmp_path, "batch_size: 4\n")
    with pytest.raises(SftbenchError) as caught:
        load_recipe(path, {"save_dtype": "float8"})
    assert caught.value.where == "--save-dtype"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- size: 3\n", "mapping of fields to values"),
        ("size 3\n", "mapping of fields to values"),
        ("1: 2\n", "mapping of fields to values"),
        ("size: [3\n", "cannot be read as YAML"),
        ("size: !!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = _written(tmp_path, text)
    with pytest.raises(SftbenchError, match=message) as caught:
        load_recipe(path)
    assert caught.value.where == str(path)


def test_a_missing_or_binary_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SftbenchError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00size")
    with pytest.raises(SftbenchError, match="cannot be read as YAML"):
        load_recipe(binary)
