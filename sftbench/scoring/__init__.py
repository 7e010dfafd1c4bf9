"""What the variants answered, and the knowledge-retention score made of it."""
