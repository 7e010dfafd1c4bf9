"""The site of a leaderboard: static pages that need no server and load nothing from elsewhere.

    board --entries--> index.html      the table: sort, filter, search, columns, permalinks
          --entries--> tradeoff.html   retention against task gain
          --bits-----> compare.html    paired differences, computed from who answered what
          --runs-----> models/*.html   a page for each model
                       score.html, rejected.html
          --tables---> data/           CSV, JSON, Parquet; records and items as they were sent in

Pages hold their data as JSON, and share scripts and style in ``assets/``. A policy in each page
allows scripts of the site alone, and no request to any other host.
"""
