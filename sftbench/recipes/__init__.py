"""How it was tuned: the recipe, the draw of facts, training on trl, and the record of it."""
