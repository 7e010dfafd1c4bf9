"""What the answers mean: pure functions on tables, and the summary of a comparison."""
