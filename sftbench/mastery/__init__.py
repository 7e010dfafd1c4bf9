"""What the base knows: estimators behind one seam, mastery levels, and cards that keep them."""
