"""Keeping a repository: verify it, and say what is in it."""
