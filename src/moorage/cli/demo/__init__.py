"""What does `moorage demo` show? The whole way, from a directory of model files to a branch that a program reads.

weights      bytes that compress like trained weights, and the safetensors format by hand
exports      the directory that a training job leaves, version 1 and version 2
stage        commands as a user would type them, timed; a place that is gone afterwards, whatever happens
scenes       what happens, in order
"""
