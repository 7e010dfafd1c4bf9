"""What the tests of the leaderboard's records share: one comparison, and results made of it."""

from __future__ import annotations

import shutil

import pytest
from leaderboards import compare, known_of, results_of


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    return compare(tmp_path_factory.mktemp("compared"))


@pytest.fixture(scope="module")
def known(asked):
    return known_of(asked)


@pytest.fixture(scope="module")
def submitted(asked, tmp_path_factory):
    """Submit every variant: tuned, then restored by 10 and 20 %."""
    return results_of(asked, tmp_path_factory.mktemp("results"))


@pytest.fixture
def results(submitted, tmp_path):
    """Return a copy of the results, which a test may spoil."""
    return shutil.copytree(root_of(submitted), tmp_path / "results")


@pytest.fixture
def paths(submitted, results):
    """Return the records in that copy, in the order in which they were submitted."""
    return [results / one.path.relative_to(root_of(submitted)) for one in submitted]


@pytest.fixture
def path(paths):
    """Return the record of the tuned model in that copy."""
    return paths[0]


def root_of(submitted):
    """Return the results folder: ``<root>/<org>__<model>/<digest>/<suite>.json``."""
    return submitted[0].path.parents[2]
