"""What helps to test moorage, and what is built on it? A suite for storages, a model, faults, and random inputs.

    storage      what every `Storage` must do, as tests to inherit
    faults       a storage in which any call can be made to fail, before or after it was done
    model        a repository of plain dictionaries, to compare the real one with
    strategies   hypothesis strategies for what goes into a repository

Needs `moorage[test]`. Nothing else in moorage imports it.
"""
