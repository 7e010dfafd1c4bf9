"""Benchmarks: short ones that are compared from run to run (`make bench`), and long scripts."""
