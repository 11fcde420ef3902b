"""What is said about a branch or a tag that is not there, is taken, or has moved, and what to do next?"""

from __future__ import annotations

from moorage.errors import AlreadyExistsError, RefMovedError, RefNotFoundError
from moorage.model.digest import SnapshotId
from moorage.model.refs import RefAction, RefKind, RefName, RefRecord


def absent(ref: RefName, dead: RefRecord | None) -> RefNotFoundError:
    """There is none, or `dead` was its end."""
    if dead is not None and dead.action is RefAction.RENAMED_TO:
        hint = f"it was renamed to {dead.other!r}"
    elif dead is not None and ref.kind is RefKind.BRANCH:
        hint = f"it was deleted; bring it back with: moorage branch create {ref.name} --from {dead.snapshot.short}"
    else:
        hint = f"`moorage {ref.kind.value}` lists what there is"
    return RefNotFoundError(f"there is no {ref}", hint=hint, ref=ref.name, ref_kind=ref.kind.value)


def taken(ref: RefName, snapshot: str) -> AlreadyExistsError:
    """The name stands at `snapshot` already."""
    hint = f"move it with: moorage branch move {ref.name} REV" if ref.kind is RefKind.BRANCH else "a tag never moves"
    return AlreadyExistsError(f"{ref} exists already, at {snapshot}", hint=hint, ref=ref.name)


def namesake(ref: RefName, other: RefName) -> AlreadyExistsError:
    """A ref of the other kind has the name."""
    if other.kind is RefKind.BRANCH:
        way = f"rename the branch: moorage branch rename {other.name} NEW"
    else:
        way = f"end the tag: moorage tag delete {other.name}"
    return AlreadyExistsError(
        f"there is a {other}, and a {ref.kind.value} of the same name could not be told apart from it",
        hint=f"take another name, or {way}",
        ref=ref.name,
    )


def moved(ref: RefName, expected: SnapshotId | None, actual: RefRecord) -> RefMovedError:
    """Somebody else wrote `actual` while the ref was thought to stand at `expected`."""
    stood = f"expected at {expected.hex()}" if expected else "expected to be new"
    stands = f"stands at {actual.snapshot.hex()}" if actual.is_alive else "is gone"
    return RefMovedError(
        f"{ref} was {stood}, but it {stands}: {actual.actor} moved it ({actual.reason})",
        hint="look at what came in between, then do it again on top of that",
        ref=ref.name,
        expected=expected.hex() if expected else None,
        actual=actual.snapshot.hex() if actual.is_alive else None,
    )
