"""How does a branch, a tag or a snapshot become a read-only directory of the operating system?

    with moorage.mount("/srv/store", "prod") as path:
        model = pickle.load(open(path / "models/model.pkl", "rb"))

mount(repo=None, revision="--all", *, directory=None, **options) mounts for the length of a block, which is given the
path. `repo` is a directory or a `Repository`, by default the nearest `.moorage` upwards; without a revision all of them
are shown at once. `directory` must be empty; by default it is a temporary one, which is removed afterwards. The
options, and what holds without them:

    pin=False            stay where the branch stands now
    sticky=False         show each process one snapshot for as long as it reads
    allow_other=False    let other users in
    uid=None, gid=None   whose everything seems to be, as numbers; of who mounts
    umask=None           bits that no mode has, such as 0o027; none
    cache_bytes=None     how large the cache of hydrated files may be, 0 for none; the smaller of 20 GiB and a tenth of
                         the disk
    timeout_s=None       within which every request is answered; 30
    driver='kernel'      or 'libfuse'
    log=None             where the server logs; a file that goes with the temporary directory, else one below
                         $XDG_STATE_HOME/moorage/logs
    log_format='text'    or 'json'
    log_opens=False      write down who opens what, for `moorage who`
    metrics=''           where numbers for Prometheus are put out: 'ADDRESS:PORT', or a file

It raises `MountError` where the machine cannot mount, `InvalidInputError` for an option or a directory that cannot be
right, and `NotFoundError` for what is not there.

The package that is called is one of the layers of moorage. From the bottom: `host` knows the machine, `journal` writes
down what happens, `shown` is the file system as values, without a protocol; `kernel` speaks the FUSE protocol on
`/dev/fuse` and `libfuse` goes through libfuse, both thin over `shown.view`. `ledger` is what the next server must know,
and `supervise` starts it. `serve` mounts and unmounts, `registry` knows what is mounted, `doctor` says what a machine
lacks, `private` gives one program a mount of its own.

That it can be called, as `private.temporary.mounted`, is since a function of that name would give way to the package as
soon as anything in here is imported.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Unpack

    from moorage.api import AnyPath, Repository
    from moorage.mount.private.temporary import MountOptions


class _Callable(ModuleType):
    """What `moorage.mount` is."""

    def __call__(
        self,
        repo: AnyPath | Repository | None = None,
        revision: str = "--all",
        *,
        directory: AnyPath | None = None,
        **options: Unpack[MountOptions],
    ) -> AbstractContextManager[Path]:
        """Mount for the length of a block; `help(moorage.mount)` says more. What is behind it is imported now: who only
        wants to know where a log lies needs none of it."""
        temporary = import_module(f"{__name__}.private.temporary")
        found: AbstractContextManager[Path] = temporary.mounted(repo, revision, directory=directory, **options)
        return found


sys.modules[__name__].__class__ = _Callable
