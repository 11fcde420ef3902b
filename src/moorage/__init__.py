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

from moorage.api import Repository
from moorage.api import open_path as open  # noqa: A004  # `moorage.open`, as in `dvc.api.open`
from moorage.errors import MoorageError

__all__ = ["MoorageError", "Repository", "__version__", "open"]

__version__ = "0.1.0"
