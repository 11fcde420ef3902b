"""Do a supervisor and its server understand each other, and does neither wait for the other?"""

from __future__ import annotations

import os

from moorage.mount.supervise.control import Channel


def test_words_and_descriptors_arrive() -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    reading, writing = os.pipe()
    other.say({"mounted": {"passthrough": True}}, reading)
    other.say({"serving": True})
    packet, fd = ours.hear()
    assert packet == {"mounted": {"passthrough": True}}
    os.write(writing, b"through")
    assert os.read(fd, 10) == b"through"
    assert not os.get_inheritable(fd)
    assert ours.hear() == ({"serving": True}, -1)
    for each in (reading, writing, fd):
        os.close(each)
    ours.close()
    other.close()


def test_whoever_is_alone_notices_and_may_still_speak() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    ours.say({"go": True})
    assert ours.hear() == (None, -1)
    ours.close()


def test_nobody_waits_for_an_ear() -> None:
    ours, theirs = Channel.pair()
    for _ in range(5_000):
        ours.say({"snapshot": "f" * 64})
    other = Channel(theirs)
    assert other.hear() == ({"snapshot": "f" * 64}, -1)
    ours.close()
    other.close()
