"""How does a command open the repository it works on?

Apart from `session`: a command that only hands it to a server, as `moorage mount` does, starts 60 ms earlier
without all that is imported here.
"""

from __future__ import annotations

from moorage.api import Repository
from moorage.cli.session import Session
from moorage.native.freed_memory import keep_freed_memory


def open_repository(session: Session) -> Repository:
    """The repository that is meant; the caller closes it. Raises `RepositoryNotFoundError`, and as opening."""
    keep_freed_memory()
    return Repository.open(session.repository_path())
