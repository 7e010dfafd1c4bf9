"""How the predictions moved: the same texts read by two models, token by token."""
