"""What can go wrong, grouped by what the one who handles it would do about it.

Every error that leaves moorage is a `MoorageError`. Its class says what to do (fix the name, reload and decide, never
retry, ...), its `kind` is a stable word for programs, and its `fields` carry the names and numbers that the message
mentions. The kinds below are append-only: a kind never changes its class or its meaning, and a test pins the whole
tree.

Three tables translate these errors, each in one place: exit codes in `moorage.cli.errors`, errno in
`moorage.mount.journal.errno_map`, and the errors of storage clients into these in `moorage.storage`.
"""

from __future__ import annotations

from typing import ClassVar


class MoorageError(Exception):
    """The root: whatever moorage raises on purpose is one of these."""

    kind: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None, **fields: object) -> None:
        """Keep the message, what to do next (`hint`), and the facts (`fields`) apart, so that each can be shown or
        tested alone."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __reduce__(self) -> tuple[object, ...]:
        """Survive the way between processes: the default loses keyword arguments."""
        return (_rebuild, (type(self), self.message, self.hint, self.fields))


def _rebuild(cls: type[MoorageError], message: str, hint: str | None, fields: dict[str, object]) -> MoorageError:
    return cls(message, hint=hint, **fields)


# -- asked for, and absent: fix the name------------------------------------------------------------


class NotFoundError(MoorageError, LookupError):
    """What was asked for does not exist; nothing promised that it would."""

    kind = "not_found"


class RepositoryNotFoundError(NotFoundError):
    """There is no repository at this place."""

    kind = "repository_not_found"


class RefNotFoundError(NotFoundError):
    """No branch or tag has this name."""

    kind = "ref_not_found"


class SnapshotNotFoundError(NotFoundError):
    """No snapshot has this id, prefix, ordinal or time."""

    kind = "snapshot_not_found"


class PathNotFoundError(NotFoundError):
    """The snapshot has no such path."""

    kind = "path_not_found"


class KeyNotFoundError(NotFoundError):
    """The storage holds nothing under this key."""

    kind = "key_not_found"


class SourceNotFoundError(NotFoundError):
    """There is no such file or directory to store."""

    kind = "source_not_found"


class MountNotFoundError(NotFoundError):
    """Nothing of moorage is mounted there."""

    kind = "mount_not_found"


class CommandNotFoundError(NotFoundError):
    """There is no program of this name to run."""

    kind = "command_not_found"


# -- already there----------------------------------------------------------------------------------


class AlreadyExistsError(MoorageError):
    """The name is taken, and what has it is never overwritten."""

    kind = "already_exists"


# -- reload and decide------------------------------------------------------------------------------


class ConflictError(MoorageError):
    """Somebody else was first, or two changes do not fit together."""

    kind = "conflict"


class RefMovedError(ConflictError):
    """The branch is not where the writer last saw it; `expected` and `actual` name both snapshots."""

    kind = "ref_moved"


class MergeConflictError(ConflictError):
    """Both sides changed the same paths in different ways; `conflicts` lists them. Nothing was written."""

    kind = "merge_conflict"


class SourceChangedError(ConflictError):
    """A file kept changing while it was read, so no one version of it could be stored."""

    kind = "source_changed"


# -- bad input--------------------------------------------------------------------------------------


class InvalidInputError(MoorageError, ValueError):
    """A name, path, revision or option that can never be right."""

    kind = "invalid_input"


class AmbiguousRevisionError(InvalidInputError):
    """The word names more than one thing; the hint says how to say which."""

    kind = "ambiguous_revision"


class UnsupportedFileError(InvalidInputError):
    """A file that a tree cannot hold: a device, a socket, a fifo, a name that is not UTF-8."""

    kind = "unsupported_file"


class UnreadableSourceError(InvalidInputError):
    """A file to store cannot be read."""

    kind = "unreadable_source"


class WrongKindError(InvalidInputError):
    """A directory where a file was needed, or the other way round."""

    kind = "wrong_kind"


class CommandNotExecutableError(InvalidInputError):
    """What was named cannot be run as a program."""

    kind = "command_not_executable"


# -- not now, not here------------------------------------------------------------------------------


class ReadOnlyError(MoorageError):
    """The repository or its medium cannot be written."""

    kind = "read_only"


class LockedError(MoorageError):
    """Somebody holds what this needs; trying again later helps."""

    kind = "locked"


class MountError(MoorageError):
    """The kernel, or the machine's set-up, would not mount or unmount."""

    kind = "mount_failed"


class MountDeniedError(MountError):
    """What was to be mounted, unmounted or upgraded is not for this user."""

    kind = "mount_denied"


# -- promised, and absent or wrong: never retry, run check------------------------------------------


class DataError(MoorageError):
    """Stored bytes are missing or are not what their name promises."""

    kind = "data"


class MissingObjectError(DataError):
    """Something refers to an object that no pack holds."""

    kind = "missing_object"


class CorruptDataError(DataError):
    """Bytes whose checksum or digest does not match; they are never handed out."""

    kind = "corrupt"


# -- written by something newer, or not ours: upgrade-----------------------------------------------


class FormatError(MoorageError):
    """Bytes that do not follow the format."""

    kind = "format"


class NewerFormatError(FormatError):
    """Written by a newer version of moorage; upgrade to read it."""

    kind = "newer_format"


# -- the medium: retry, or mend credentials---------------------------------------------------------


class StorageError(MoorageError):
    """The disk or the object store said no."""

    kind = "storage"


class StorageFullError(StorageError):
    """No space, or no quota, is left."""

    kind = "storage_full"


class StorageDeniedError(StorageError):
    """Permission or credentials are missing."""

    kind = "storage_denied"


class OutcomeUnknownError(StorageError):
    """The write may or may not have happened: it was not acknowledged, and it is not undone. Read back to know."""

    kind = "outcome_unknown"
