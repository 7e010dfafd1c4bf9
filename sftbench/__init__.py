"""sftbench: what a fine-tune did to what a language model knows.

Importing the package is free: every heavy library (torch, transformers, lm_eval, trl) is imported
by the function that needs it.
"""

__version__ = "0.1.0"
