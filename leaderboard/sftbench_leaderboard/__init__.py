"""The leaderboard of sftbench: community checkpoints compared by what they kept.

It will hold versioned result records with their per-item answers, the validation that recomputes
every headline number from them, aggregation and ranks within one base model, and a static site.
It is a package of its own name in a second source root, so that nothing called ``leaderboard``
lands at the top of site-packages. Nothing of it is built yet.
"""
