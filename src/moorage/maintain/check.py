"""Is everything in this repository what it should be, and if not, what is touched?

Verifies configuration, packs, index segments, the local index, refs, snapshots, trees, recipes, and that each chunk has
its place; with `data` also every stored byte, and each file as a whole. Damage is never raised but reported; what a
storage refuses is raised.

Truth is checked from both ends: the packs from their footers, whether or not anything refers to them, and the graph
from branches and tags down to chunks. The local index, which is derived, is brought up to date first, and built anew
where it disagrees with the packs; nothing else is written.
"""

from __future__ import annotations

from moorage.maintain.affected import find_affected
from moorage.maintain.check_contents import ContentChecker
from moorage.maintain.check_files import check_config, check_segments, leftovers
from moorage.maintain.check_graph import GraphChecker
from moorage.maintain.check_objects import ObjectChecker
from moorage.maintain.check_packs import PacksChecked, check_packs, list_packs
from moorage.maintain.check_refs import check_refs
from moorage.maintain.findings import Findings
from moorage.maintain.report import CheckReport, Garbage, Problem, ProblemKind, Severity, Verified
from moorage.model.progress import SILENT, Progress
from moorage.repository.handle import RepositoryHandle

__all__ = ["CheckReport", "Garbage", "Problem", "ProblemKind", "Severity", "Verified", "check"]


def check(handle: RepositoryHandle, *, data: bool = False, progress: Progress = SILENT) -> CheckReport:
    """Verify a repository; with `data` read every stored byte, and hash each distinct file.

    May run beside writers: what they finish meanwhile may or may not be looked at. Raises `StorageError` for what is no
    damage (permission), `NewerFormatError` for a repository that this version cannot read.
    """
    findings = Findings()
    check_config(handle.storage, findings)
    refs = check_refs(handle.storage, handle.refs, findings)
    # Refs first: what a ref led to a moment ago was durable before it, so it is in the packs listed now.
    packs = list_packs(handle.storage, findings)
    segments = check_segments(handle.storage, set(packs.sizes), findings)
    rebuilt = _check_packs(handle, packs, findings, progress, data=data)
    objects = ObjectChecker(handle.storage, handle.locator, findings)
    graph = GraphChecker(objects, progress)
    graph.check(head.snapshot for head in refs.heads)
    contents = ContentChecker(handle.objects, findings, progress)
    if data:
        contents.check(graph.contents)
    if findings.spoils_something:
        find_affected(handle.storage, handle.locator, findings, refs.heads, graph.snapshots)
    verified = Verified(
        refs=refs.refs,
        ref_records=refs.records,
        snapshots=len(graph.snapshots),
        trees=graph.trees,
        files=graph.files,
        recipes=graph.recipes,
        chunks=sum(1 for _ in graph.chunks),
        packs=len(packs.sizes),
        objects=packs.objects,
        segments=segments,
        data_bytes=packs.data_bytes,
        hashed_bytes=contents.hashed_bytes,
    )
    unused = packs.sizes.keys() - objects.used_packs
    garbage = Garbage(len(unused), sum(packs.sizes[pack] for pack in unused), *leftovers(handle.storage))
    return CheckReport(findings.problems(), verified, garbage, data=data, index_rebuilt=rebuilt)


def _check_packs(
    handle: RepositoryHandle, packs: PacksChecked, findings: Findings, progress: Progress, *, data: bool
) -> bool:
    """Check the packs; whether the index disagreed with them, and was built anew."""
    handle.locator.refresh()
    if check_packs(handle.storage, handle.locator, packs, findings, progress, data=data):
        return False
    handle.locator.rebuild()
    findings.add(
        ProblemKind.INDEX,
        "index",
        "the local index did not agree with the packs; it was built anew, and nothing is lost",
        Severity.WARNING,
    )
    return True
