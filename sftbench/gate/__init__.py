"""Does a recipe lose knowledge? Runs of a candidate held against those of a baseline."""
