"""Reading objects for a check: from where the index says, past every cache, and without raising for damage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from moorage.errors import DataError, FormatError, MissingObjectError, StorageDeniedError, StorageError
from moorage.maintain.findings import Findings
from moorage.maintain.report import ProblemKind
from moorage.model.digest import ObjectId, PackId
from moorage.model.objects import PackLocation
from moorage.packs.reader import read_object
from moorage.repository.locator import Locator
from moorage.storage.base import Storage

T = TypeVar("T")


class ObjectChecker:
    """Reads objects, and writes down those that cannot be read."""

    def __init__(self, storage: Storage, locator: Locator, findings: Findings) -> None:
        """The index must have been brought up to date: what it does not know is missing."""
        self._storage = storage
        self._locator = locator
        self.findings = findings
        self.used_packs: set[PackId] = set()
        """Where objects lie that were asked for."""

    def locate(self, ids: Sequence[ObjectId]) -> list[PackLocation | None]:
        """Where each object lies; None, and written down, where it is missing."""
        places = self._locator.lookup(ids)
        for id, place in zip(ids, places, strict=True):
            if place is None:
                self.findings.missing_object(id, "it is in no pack, although something refers to it")
            else:
                self.used_packs.add(place.pack)
        return places

    def read(self, id: ObjectId, decode: Callable[[bytes], T]) -> T | None:
        """One object; None, and written down, where it is missing or damaged. Raises `StorageDeniedError`."""
        place = self.locate([id])[0]
        if place is None:
            return None
        try:
            return decode(read_object(self._storage, id, place))
        except StorageDeniedError:
            raise
        except MissingObjectError as error:
            self.findings.missing_object(id, error.message)  # an index outlives its packs where all of them are gone
            return None
        except (DataError, FormatError, StorageError) as error:
            spoilt = self.findings.of_location(place)
            if spoilt is not None:
                self.findings.spoil_object(id, spoilt)  # told with its pack
            else:
                self.findings.bad_object(ProblemKind.CORRUPT_OBJECT, id, error.message)
            return None
