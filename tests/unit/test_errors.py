"""Do errors keep what they know, also on the way between processes?"""

from __future__ import annotations

import pickle

from moorage.errors import MoorageError, RefMovedError


def test_message_hint_and_fields_are_apart() -> None:
    error = RefMovedError("it moved", hint="look again", expected="a", actual=None)
    assert (str(error), error.message, error.hint) == ("it moved", "it moved", "look again")
    assert error.fields == {"expected": "a", "actual": None}
    assert error.kind == "ref_moved"
    assert MoorageError("only a message").hint is None


def test_they_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(RefMovedError("it moved", hint="look again", expected="a")))
    assert type(error) is RefMovedError
    assert (error.message, error.hint, error.fields) == ("it moved", "look again", {"expected": "a"})
