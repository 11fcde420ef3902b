"""Keys to bytes: a directory, memory, and what can be wrapped around either.

A storage knows no other word of moorage. `base` is the contract; `moorage.testing.storage` is the suite that every
storage passes.
"""
