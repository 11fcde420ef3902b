"""A directory, a file or a stream to a tree to a snapshot: scan, read, cut, store, and move the branch."""
