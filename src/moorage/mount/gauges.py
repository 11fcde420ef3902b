"""What has a mount to say of itself, beside how it answers requests?

Each function makes a source of `metrics.Metrics`. All of them look at what is there anyway.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator

from moorage.mount import registry
from moorage.mount.journal.metrics import Family, Sample, Source, counter, gauge
from moorage.mount.request import MountRequest
from moorage.mount.shown.hydration import Hydration
from moorage.mount.shown.patience import Patience

_PAGE_BYTES = resource.getpagesize()
_BEGAN_S = time.time()


def of_mount(request: MountRequest, mountpoint: str) -> Source:
    """What is mounted where, as the registry has it: also what the supervisor knows."""
    from importlib import metadata  # 20 ms that no mount needs which puts out no numbers

    version = metadata.version("moorage")

    def families() -> Iterator[Family]:
        record = registry.served_by(mountpoint, os.getpid())
        labels = {"mountpoint": mountpoint, "repository": request.repository, "revision": request.revision}
        labels |= {"snapshot": record.snapshot if record else "", "version": version}
        yield gauge("moorage_mount_info", "What is mounted; always 1.", Sample(1, labels))
        if record is not None:
            began = record.started_ns / 1e9
            yield gauge("moorage_mount_start_time_seconds", "When it was mounted, in Unix time.", began)
            yield counter("moorage_server_restarts_total", "Servers of this mount that died.", record.restarts)
            yield counter("moorage_server_upgrades_total", "Servers that were to be replaced.", record.upgrades)

    return families


def of_hydration(hydration: Hydration) -> Source:
    """Where opens got their bytes, and what is assembled."""

    def families() -> Iterator[Family]:
        figures = hydration.figures
        yield counter(
            "moorage_opens_total",
            "Opens of files, by where their bytes come from.",
            Sample(figures.opens_from_cache, {"source": "cache"}),
            Sample(figures.opens_from_chunks, {"source": "chunks"}),
        )
        yield gauge("moorage_hydration_queue", "Files that wait to be assembled in the cache.", hydration.waiting)
        yield counter("moorage_hydrated_files_total", "Files that were assembled in the cache.", figures.files)
        yield counter("moorage_hydrated_bytes_total", "Size of these.", figures.size_bytes)

    return families


def of_patience(patience: Patience) -> Source:
    """What took too long."""

    def families() -> Iterator[Family]:
        text = "Requests that were answered EIO because their time was over."
        yield counter("moorage_requests_timed_out_total", text, patience.given_up)

    return families


def of_process() -> Iterator[Family]:
    """What the server costs; in the names that every exporter has."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    yield counter("process_cpu_seconds_total", "User and system time of the server.", used.ru_utime + used.ru_stime)
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[1])
    yield gauge("process_resident_memory_bytes", "Memory of the server.", pages * _PAGE_BYTES)
    yield gauge("process_open_fds", "Open files of the server.", len(os.listdir("/proc/self/fd")))
    yield gauge("process_start_time_seconds", "When the server started, in Unix time.", _BEGAN_S)
