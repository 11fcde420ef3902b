"""Packs: many stored objects in one immutable file. Knows `format` and `storage`, not the index."""
