"""`branch:path` and a range to bytes: resolve names, read chunks, hydrate whole files, write checkouts."""
