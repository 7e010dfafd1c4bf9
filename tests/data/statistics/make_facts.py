"""Print facts.csv: facts whose answers are shared very unevenly, drawn with a fixed seed."""

import numpy as np

rng = np.random.default_rng(20140)
print("fact_id,relation,answer,level,right,before,after")
number = 0
for relation, count, answers in (
    ("capital", 30, 25),
    ("continent", 26, 5),
    ("currency", 5, 1),
    ("language", 23, 8),
):
    weight = 1 / np.arange(1, answers + 1)
    leaning = rng.normal(0, 0.8, answers)
    for answer in rng.choice(answers, count, p=weight / weight.sum()):
        level = int(rng.integers(1, 5))
        deviates = level - 1.5 + leaning[answer] + rng.normal(0, 1.5, 3)
        right, before, after = (
            int(one > cut) for one, cut in zip(deviates, (0, 0, 0.8), strict=True)
        )
        print(f"f{number:02d},{relation},{relation[:3]}{answer},{level},{right},{before},{after}")
        number += 1
