"""A small invented world, and a tiny model that truly knows some of it."""
