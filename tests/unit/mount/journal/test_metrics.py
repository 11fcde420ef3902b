"""Is what programs are told in the form that they expect, and does it go where it was said to go?"""

from __future__ import annotations

import os
import re
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.errors import InvalidInputError, MountError
from moorage.mount import gauges
from moorage.mount.journal import exporter
from moorage.mount.journal.exporter import Address, Exporter, target
from moorage.mount.journal.metrics import CONTENT_TYPE, HISTOGRAM, Family, Metrics, Sample, counter, gauge

LINE = re.compile(r'[a-z_]+(\{([a-z]+="([^"\\\n]|\\["\\n])*"(,|(?=\})))*\})? (-?\d+(\.\d+)?(e[+-]?\d+)?|\+Inf)')


def parsed(text: str) -> dict[str, float]:
    """The samples of an exposition; every line must be one, or a comment."""
    assert text.endswith("\n")
    found = {}
    for line in text.splitlines():
        if not line.startswith(("# HELP ", "# TYPE ")):
            assert LINE.fullmatch(line), line
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found


def metrics(*families: Family) -> Metrics:
    made = Metrics()
    made.add(lambda: families)
    return made


# -- form ------------------------------------------------------------------------------------------


def test_a_family() -> None:
    family = counter("a_total", "What it is.", Sample(2, {"kind": "x"}), Sample(0.25, {"kind": 'q"\\\n'}))
    assert metrics(family).text() == (
        '# HELP a_total What it is.\n# TYPE a_total counter\na_total{kind="x"} 2\na_total{kind="q\\"\\\\\\n"} 0.25\n'
    )
    assert list(parsed(metrics(family, gauge("b", "B.", 5)).text()).values()) == [2, 0.25, 5]


def test_a_path_that_is_no_text() -> None:
    text = metrics(gauge("a", "A.", Sample(1, {"path": os.fsdecode(b"/srv/\xff")}))).text()
    assert 'path="/srv/\\\\udcff"' in text
    parsed(text)


def test_a_source_that_fails_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Iterator[Family]:
        yield gauge("never", "N.", 1)
        raise OSError("gone")

    made = metrics(gauge("a", "A.", 1))
    made.add(broken)
    made.add(lambda: [gauge("b", "B.", 2)])
    assert parsed(made.text()) == {"a": 1, "b": 2}
    assert "metrics are left out" in caplog.text


def test_what_the_process_says() -> None:
    made = Metrics()
    made.add(gauges.of_process)
    found = parsed(made.text())
    assert found["process_resident_memory_bytes"] > 1_000_000
    assert found["process_open_fds"] >= 3
    assert found["process_cpu_seconds_total"] > 0


# -- where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("127.0.0.1:9469", Address("127.0.0.1", 9469)),
        ("127.8.9.1:0", Address("127.8.9.1", 0)),
        ("localhost:1", Address("127.0.0.1", 1)),
        ("[::1]:9469", Address("::1", 9469)),
        ("/var/lib/m.prom", Path("/var/lib/m.prom")),
        ("m.prom", Path("m.prom")),
        ("./m", Path("m")),
    ],
)
def test_a_target(text: str, where: Address | Path) -> None:
    assert target(text) == where


@pytest.mark.parametrize("text", ["0.0.0.0:9469", "[::]:9469", "192.168.1.1:9469", "example.org:80"])
def test_addresses_that_others_reach(text: str) -> None:
    with pytest.raises(InvalidInputError, match="this machine's own addresses only"):
        target(text)


@pytest.mark.parametrize(("text", "lacks"), [(":9469", "it has no address"), ("127.0.0.1:65536", "no port 65536")])
def test_addresses_that_lack_something(text: str, lacks: str) -> None:
    with pytest.raises(InvalidInputError, match=lacks):
        target(text)


@pytest.mark.parametrize("text", ["", "9469", "127.0.0.1", "metrics", "127.0.0.1:port"])
def test_what_is_neither(text: str) -> None:
    with pytest.raises(InvalidInputError, match="neither an address with a port nor a file"):
        target(text)


def asked(address: Address, path: str = "/metrics") -> tuple[int, str, str]:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=30) as answer:
        return answer.status, answer.headers["Content-Type"], answer.read().decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_over_http(host: str) -> None:
    if host == "::1" and not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    out = Exporter(Address(host, 0), metrics(gauge("a", "A.", Sample(1, {"path": "größe"}))))
    out.start()
    assert out.address is not None
    status, kind, text = asked(out.address)
    assert (status, kind) == (200, CONTENT_TYPE)
    assert 'a{path="größe"} 1\n' in text
    assert asked(out.address, "/metrics?x=1")[0] == 200
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(out.address, "/")
    out.close()
    with pytest.raises(OSError, match="refused"):
        asked(out.address)


def test_who_asks_and_does_not_wait_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "SLOWEST_S", 0.05)
    out = Exporter(Address("127.0.0.1", 0), metrics(gauge("a", "A.", 1)))
    out.start()
    assert out.address is not None
    silent = socket.create_connection((out.address.host, out.address.port))
    socket.create_connection((out.address.host, out.address.port)).close()
    assert parsed(asked(out.address)[2]) == {"a": 1}
    silent.close()
    out.close()


def test_a_port_that_somebody_has(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(exporter, "RETRY_S", 0.01)
    first = Exporter(Address("127.0.0.1", 0), Metrics())
    first.start()
    assert first.address is not None
    with pytest.raises(MountError, match=r"cannot put out metrics at 127\.0\.0\.1:") as caught:
        Exporter(first.address, Metrics()).start()
    assert "Address already in use" in caught.value.message
    later = Exporter(first.address, metrics(gauge("a", "A.", 1)))
    later.start(is_first=False)
    assert "no metrics yet" in caplog.text
    first.close()
    while later.address is None:
        os.sched_yield()
    assert parsed(asked(later.address)[2]) == {"a": 1}
    later.close()


def test_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "EVERY_S", 0.01)
    count = [0]

    def source() -> list[Family]:
        count[0] += 1
        return [gauge("a", "A.", count[0])]

    made = Metrics()
    made.add(source)
    out = Exporter(tmp_path / "m.prom", made)
    out.start()
    assert parsed((tmp_path / "m.prom").read_text())["a"] >= 1  # there as soon as it has started
    while parsed((tmp_path / "m.prom").read_text())["a"] < 3:
        os.sched_yield()
    out.close()
    assert os.listdir(tmp_path) == []


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(MountError, match=r"cannot put out metrics at .*: No such file or directory"):
        Exporter(tmp_path / "nothing/m.prom", Metrics()).start()


def test_a_histogram() -> None:
    family = Family("s", HISTOGRAM, "S.", (Sample(1, {"le": "+Inf"}, "_bucket"), Sample(2.5, {}, "_sum")))
    assert parsed(metrics(family).text()) == {'s_bucket{le="+Inf"}': 1, "s_sum": 2.5}
