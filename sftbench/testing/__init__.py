"""Recipes under pytest: train once, score once, gate. The plugin is `sftbench.testing.plugin`."""
