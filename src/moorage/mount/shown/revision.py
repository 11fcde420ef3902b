"""What does a mount show, and how does another server show the same?

A value that says so (`Shown`) is found when a mount is made, and given to each later server of it: where the root
stands, and the record of the branch at which following began.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from moorage.model.refs import RefKind, RefRecord
from moorage.mount.request import MountRequest
from moorage.mount.shown.all_branches import Everything
from moorage.mount.shown.following import Fixed, Following, Root, Standing
from moorage.mount.shown.hydration import Hydration
from moorage.mount.shown.stood import Stood
from moorage.mount.shown.view import View
from moorage.read.resolve import Resolved, resolve
from moorage.repository.handle import RepositoryHandle


@dataclass(frozen=True, slots=True)
class Shown:
    """What a mount shows."""

    standing: Standing | None
    """Where the root stands, or was last known to stand; None where everything is shown."""
    followed: RefRecord | None = None
    """A record of the branch that is followed, from which its later ones are found; None where nothing is."""

    def view(
        self,
        handle: RepositoryHandle,
        hydration: Hydration,
        moved: Callable[[Standing], None] = lambda standing: None,
        noted: Callable[[str], None] = lambda note: None,
    ) -> View:
        """The file system. `moved` is called when it has followed, `noted` as in `Following`."""
        if self.standing is None:
            return View(handle.trees, hydration.open, Everything(handle.refs, handle.objects, handle.history))
        root: Root = Fixed(self.standing)
        if self.followed is not None:
            root = Following(handle.refs, handle.objects, self.followed, self.standing, moved, noted)
        branch = None if self.followed is None else self.followed.ref
        return View(handle.trees, hydration.open, root, Stood(root, handle.refs, handle.objects, branch))


def of_request(handle: RepositoryHandle, request: MountRequest) -> Shown:
    """What somebody wants shown. Raises what `resolve` raises."""
    if request.is_everything:
        return Shown(None)
    return of_revision(resolve(handle, request.revision), pin=request.pin)


def of_revision(resolved: Resolved, *, pin: bool) -> Shown:
    """Only a branch that was named as it stands is followed, and only unpinned (`prod@{1}` and `prod~2` are
    moments)."""
    record = resolved.record
    if record is None or record.ref.kind is not RefKind.BRANCH:
        return Shown(Standing.at(resolved.id, resolved.snapshot))
    ref = record.ref
    is_followed = not pin and resolved.revision in (ref.name, f"refs/{ref.kind.folder}/{ref.name}")
    return Shown(Standing.at(resolved.id, resolved.snapshot, ref.name), record if is_followed else None)
