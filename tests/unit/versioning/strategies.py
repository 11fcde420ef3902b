"""Random small trees for hypothesis, written down as `tests.unit.versioning.build` takes them."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.unit.versioning.build import Exe, Files, Leaf, Link

_names = st.sampled_from(["a", "b", "c", "é"])
_contents = st.sampled_from([b"", b"1", b"2", b"3" * 3000])
leaves: st.SearchStrategy[Leaf] = st.one_of(
    _contents,
    _contents.map(Exe),
    st.sampled_from(["a", "/etc"]).map(Link),
    st.none(),
)
paths = st.lists(_names, min_size=1, max_size=3).map("/".join)


def without_files_above(files: Files) -> dict[str, Leaf]:
    """Drop each path that is below another one, since a file cannot also be a directory."""
    return {path: leaf for path, leaf in files.items() if not any(path.startswith(f"{above}/") for above in files)}


trees = st.dictionaries(paths, leaves, max_size=6).map(without_files_above)
"""Paths and what is there, none below another."""
