"""The words of moorage as frozen values, valid from construction: digests, names, recipes, trees, snapshots, refs.

Nothing here does I/O or knows how a value is written to disk (see `moorage.format`).
"""
