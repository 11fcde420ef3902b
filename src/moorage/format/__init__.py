"""Values to bytes on disk and back, pure: one module a kind of file, its offset table in its docstring.

The normative text is `docs/format/v1.md`. One canonical encoding: whatever decodes must encode to the same bytes again,
else it is a `FormatError`; so equal values have equal ids, and nothing can hide in an encoding. Integers are
little-endian and unsigned.
"""
