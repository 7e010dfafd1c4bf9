"""The leaderboard of sftbench: community checkpoints compared by what they kept.

It holds versioned result records with their per-item answers, the validation that recomputes every
headline number from them, exports, and ranks within one base model; the site is to come.
It is a package of its own name in a second source root, so that nothing called ``leaderboard``
lands at the top of site-packages.
"""
