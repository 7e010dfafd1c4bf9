"""How a comparison is shown: one HTML page and tables for the terminal."""
