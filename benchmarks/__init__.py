"""Side-by-side measurements against peers, one table each; never part of a test."""
