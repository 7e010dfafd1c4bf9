"""What every room leans on: errors for people, digests, atomic files, typed tables, progress."""
