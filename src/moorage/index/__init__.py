"""Which pack holds this object, and where? Derived, always rebuildable from packs; LMDB is named only here."""
