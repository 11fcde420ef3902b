"""Where a check writes down what it finds, while it finds it; and which objects each finding spoils.

Used by one thread at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from moorage.maintain.report import Problem, ProblemKind, Severity
from moorage.model.digest import ObjectId, PackId
from moorage.model.objects import KIND_OF_ID, ObjectKind, PackLocation

AFFECTED_LISTED = 20
_KINDS = list(ProblemKind)


@dataclass(eq=False, slots=True)
class Finding:
    """One problem, growing."""

    severity: Severity
    kind: ProblemKind
    what: str
    message: str
    affected: list[str] = field(default_factory=list)
    affected_count: int = 0

    def touches(self, location: str) -> None:
        """One more place that cannot be trusted."""
        self.affected_count += 1
        if len(self.affected) < AFFECTED_LISTED:
            self.affected.append(location)

    def as_problem(self) -> Problem:
        """The value for the report."""
        return Problem(self.severity, self.kind, self.what, self.message, tuple(self.affected), self.affected_count)


def object_name(id: ObjectId) -> str:
    """The kind and the id of an object."""
    return f"{KIND_OF_ID[type(id)].name.lower()} {id.hex()}"


class Findings:
    """All problems so far, and what they spoil."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._all: list[Finding] = []
        self._objects: dict[tuple[ObjectKind, bytes], Finding] = {}
        self._packs: dict[PackId, Finding] = {}
        self._lost: dict[tuple[ObjectKind, bytes], Finding] = {}

    def add(self, kind: ProblemKind, what: str, message: str, severity: Severity = Severity.ERROR) -> Finding:
        """Write down a problem."""
        finding = Finding(severity, kind, what, message)
        self._all.append(finding)
        return finding

    def spoil_object(self, id: ObjectId, finding: Finding) -> None:
        """The object cannot be trusted; the first finding that says so is kept."""
        self._objects.setdefault((KIND_OF_ID[type(id)], bytes(id)), finding)

    def spoil_pack(self, pack: PackId, finding: Finding) -> None:
        """Nothing in the pack can be trusted."""
        self._packs.setdefault(pack, finding)

    def lose_object(self, id: ObjectId, finding: Finding) -> None:
        """The object was in a pack that is gone; that spoils it if no other pack has it."""
        self._lost.setdefault((KIND_OF_ID[type(id)], bytes(id)), finding)

    def missing_object(self, id: ObjectId, message: str) -> None:
        """An object that no pack has, although something refers to it; blamed on the pack that had it, if known."""
        lost = self._lost.get((KIND_OF_ID[type(id)], bytes(id)))
        if lost is None:
            self.bad_object(ProblemKind.MISSING_OBJECT, id, message)
        else:
            self.spoil_object(id, lost)

    def bad_object(self, kind: ProblemKind, id: ObjectId, message: str) -> None:
        """Write down a problem of one object, unless it is spoilt already."""
        if (KIND_OF_ID[type(id)], bytes(id)) not in self._objects:
            self.spoil_object(id, self.add(kind, object_name(id), message))

    def of_object(self, id: ObjectId) -> Finding | None:
        """What spoils the object by itself."""
        return self._objects.get((KIND_OF_ID[type(id)], bytes(id)))

    def of_location(self, location: PackLocation) -> Finding | None:
        """What spoils the pack that an object lies in."""
        return self._packs.get(location.pack)

    @property
    def spoils_something(self) -> bool:
        """Whether any object or pack cannot be trusted."""
        return bool(self._objects or self._packs)

    def problems(self) -> tuple[Problem, ...]:
        """Errors first, then by kind and name."""
        found = [finding.as_problem() for finding in self._all]
        return tuple(
            sorted(found, key=lambda p: (p.severity is Severity.WARNING, _KINDS.index(p.kind), p.what, p.message))
        )

    def untouched(self) -> set[Finding]:
        """Those that spoil objects and touch nothing yet."""
        spoiling = {*self._objects.values(), *self._packs.values()}
        return {finding for finding in spoiling if not finding.affected_count}
