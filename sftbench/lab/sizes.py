"""How large a lab is: the numbers that define the `test` and the `study` size."""

from __future__ import annotations

from dataclasses import dataclass

from sftbench.common.errors import SftbenchError


@dataclass(frozen=True)
class Stating:
    """One way in which facts are stated in the text.

    Attributes:
        share: share of the facts that are stated like this.
        statements: fewest and most statements of a fact.
        contradicted: least and greatest share of them that name a rival instead of the answer.
    """

    share: float
    statements: tuple[int, int]
    contradicted: tuple[float, float]


@dataclass(frozen=True)
class LabSize:
    """Everything that decides what a lab is, apart from the relations.

    Attributes:
        name: what it is called on the command line.
        seed: seed of the world, its text and the training.
        train_in, test_in: facts (one per subject) of each in-domain relation, by split.
        train_out, test_out: the same for each out-of-domain relation, whose train facts serve as
            examples alone.
        answers_per_relation: number of different answers in a relation.
        stating: how facts are stated; the shares add up to 1.
        vocabulary: size of the tokenizer's vocabulary, special tokens included.
        hidden, layers, heads, feed_forward: shape of the Llama.
        epochs: how often the training goes through the text.
        batch_tokens: tokens of a training step, padding included.
        learning_rate: highest learning rate of AdamW, for embeddings and norms.
        matrix_rate: highest learning rate of Muon, for the matrices of the blocks.
        promised_train, promised_test: facts per level that a build should reach.
    """

    name: str
    seed: int
    train_in: int
    test_in: int
    train_out: int
    test_out: int
    answers_per_relation: int
    stating: tuple[Stating, ...]
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    feed_forward: int
    epochs: int
    batch_tokens: int
    learning_rate: float
    matrix_rate: float
    promised_train: int
    promised_test: int


# Levels 0 and 4 come from facts that the text never states or always contradicts, and often
# states; the levels between from facts that it disputes (R follows the share of statements that
# are not contradicted) or states only a few times. The shares fill the levels about evenly.
TEST_STATING = (
    Stating(0.08, (0, 0), (0.0, 0.0)),  # never
    Stating(0.10, (8, 24), (1.0, 1.0)),  # always contradicted
    Stating(0.15, (1, 5), (0.0, 0.3)),  # rarely
    Stating(0.13, (8, 24), (0.7, 0.9)),  # mostly contradicted
    Stating(0.34, (8, 24), (0.3, 0.65)),  # disputed
    Stating(0.20, (8, 24), (0.0, 0.15)),  # often
)
STUDY_STATING = (
    Stating(0.14, (0, 0), (0.0, 0.0)),  # never
    Stating(0.08, (6, 12), (1.0, 1.0)),  # always contradicted
    Stating(0.09, (1, 4), (0.0, 0.3)),  # rarely
    Stating(0.19, (20, 26), (0.5, 0.6)),  # disputed, more often than not contradicted
    Stating(0.22, (20, 26), (0.4, 0.5)),  # disputed
    Stating(0.14, (20, 26), (0.28, 0.38)),  # disputed, less often contradicted
    Stating(0.14, (20, 26), (0.0, 0.15)),  # often
)

TEST = LabSize(
    name="test",
    seed=20,
    train_in=90,
    test_in=60,
    train_out=54,
    test_out=36,
    answers_per_relation=50,
    stating=TEST_STATING,
    vocabulary=3000,
    hidden=96,
    layers=3,
    heads=3,
    feed_forward=256,
    epochs=6,
    batch_tokens=768,
    learning_rate=2e-3,
    matrix_rate=0.012,
    promised_train=0,
    promised_test=50,
)

STUDY = LabSize(
    name="study",
    seed=21,
    train_in=2250,
    test_in=430,
    train_out=60,
    test_out=290,
    answers_per_relation=60,
    stating=STUDY_STATING,
    vocabulary=4096,
    hidden=128,
    layers=3,
    heads=4,
    feed_forward=384,
    epochs=4,
    batch_tokens=2048,
    learning_rate=2.5e-3,
    matrix_rate=0.015,
    promised_train=1920,
    promised_test=500,
)

SIZES = {size.name: size for size in (TEST, STUDY)}


def size_named(name: str) -> LabSize:
    """Return the size called `name`, or raise `SftbenchError`."""
    if name not in SIZES:
        raise SftbenchError(
            f"there is no lab size {name!r}",
            where="--size",
            remedy=f"Name one of {', '.join(SIZES)}.",
        )
    return SIZES[name]
