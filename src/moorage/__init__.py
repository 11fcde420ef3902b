"""moorage: a content-addressed store for large model and data files, with branches, and a mount that shows any of them.

    import moorage

    repo = moorage.Repository.create("/srv/store")
    repo.commit("models/", branch="prod", message="first", create=True)
    repo.create_branch("experiment/v2", "prod")
    repo.commit("models-v2/", branch="experiment/v2")
    repo.merge("experiment/v2", into="prod")
    model = pickle.load(repo.open("prod:model.pkl"))

The way of the data, and of the packages: file -> `chunking` -> `packs` -> recipe, tree, snapshot (`ingest`) -> refs
(`repository`) -> `read`, `versioning`, `mount`. The words are in `moorage.model`, the errors in `moorage.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moorage.api import Repository
    from moorage.api import open_path as open  # noqa: A004  # `moorage.open`, as in `dvc.api.open`
    from moorage.errors import MoorageError
    from moorage.mount.private.pinned import Pinned, resolve
    from moorage.mount.private.temporary import mounted as mount

__all__ = ["MoorageError", "Pinned", "Repository", "__version__", "mount", "open", "resolve"]

__version__ = "0.1.0"

_HOMES = {
    "MoorageError": ("moorage.errors", "MoorageError"),
    "Pinned": ("moorage.mount.private.pinned", "Pinned"),
    "Repository": ("moorage.api", "Repository"),
    "mount": ("moorage.mount", ""),  # a package, which can be called
    "open": ("moorage.api", "open_path"),
    "resolve": ("moorage.mount.private.pinned", "resolve"),
}


def __getattr__(name: str) -> object:
    """A public name, imported when it is first asked for: `moorage --version` pays for none of them (0.08 s instead of
    0.25 s), and neither does a program that imports one module of ours."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    home = import_module(module)
    value: object = getattr(home, attribute) if attribute else home
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, those not imported yet included."""
    return sorted({*globals(), *__all__})
