"""Tests of a results folder: `pytest --pyargs sftbench_leaderboard.checks --sftbench-results DIR`.

For the CI of a repository that holds results. Options are declared by `sftbench.testing.plugin`.
"""
