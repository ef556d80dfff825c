"""Running a function once to write down its graph and what it read."""
