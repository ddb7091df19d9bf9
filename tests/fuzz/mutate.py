"""Damage to files: of the kinds that disks, networks, editors and attackers cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

_NUMBERS = (b"-1", b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"4294967296", b"0.5", b"true")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_WORDS = (b"null", b"{}", b"[]", b'""', b"\xef\xbb\xbf", b"\xe9", b"\x00", b"\\u0000", b"\r\n")


def mutate(data: bytes, random: Random) -> bytes:
    """Return damaged data; one to three kinds of damage, one after another."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(KINDS)(data, random)
    return data


def _span(data: bytes, random: Random, longest: int = 64) -> slice:
    start = random.randrange(len(data) + 1)
    return slice(start, start + random.randint(1, longest))


def _flip(data: bytes, random: Random) -> bytes:
    damaged = bytearray(data)
    for _ in range(random.randint(1, 8) if data else 0):
        damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
    return bytes(damaged)


def _header(data: bytes, random: Random) -> bytes:
    """Overwrite bytes near the beginning, where most formats declare sizes."""
    damaged = bytearray(data)
    for _ in range(random.randint(1, 6)):
        if damaged:
            place = random.randrange(min(len(damaged), 128))
            damaged[place] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(damaged)


def _truncate(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _delete(data: bytes, random: Random) -> bytes:
    span = _span(data, random)
    return data[: span.start] + data[span.stop :]


def _insert(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.randint(1, 64)) + data[place:]


def _duplicate(data: bytes, random: Random) -> bytes:
    span = _span(data, random, 4096)
    return data[: span.stop] + data[span] + data[span.stop :]


def _zero(data: bytes, random: Random) -> bytes:
    span = _span(data, random, max(len(data) // 3, 1))
    return data[: span.start] + bytes(len(data[span])) + data[span.stop :]


def _number(data: bytes, random: Random) -> bytes:
    """Replace a number in a text."""
    matches = list(_NUMBER.finditer(data[:100_000]))
    if not matches:
        return _flip(data, random)
    match = random.choice(matches)
    return data[: match.start()] + random.choice(_NUMBERS) + data[match.end() :]


def _word(data: bytes, random: Random) -> bytes:
    span = _span(data, random, 8)
    return data[: span.start] + random.choice(_WORDS) + data[span.stop :]


def _value(data: bytes, random: Random) -> bytes:
    """Replace what stands behind a colon in JSON or YAML."""
    places = [index for index, byte in enumerate(data[:20_000]) if byte == ord(":")]
    if not places:
        return _word(data, random)
    place = random.choice(places) + 1
    end = next((i for i in range(place, len(data)) if data[i] in b",}\n"), len(data))
    return data[:place] + b" " + random.choice((*_WORDS, *_NUMBERS)) + data[end:]


def _deep(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.choice((b"[", b'{"a":', b"(")) * 20_000 + data[place:]


def _digits(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + b"1" * 5_001 + data[place:]


def _swap(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[place:] + data[:place]


def _nothing(data: bytes, random: Random) -> bytes:
    return random.choice((b"", b"\n", b"\x00" * 100, b"no such format"))


KINDS: tuple[Callable[[bytes, Random], bytes], ...] = (
    *(_flip, _header, _truncate, _delete, _insert, _duplicate, _zero, _number, _number),
    *(_word, _value, _value, _deep, _digits, _swap, _nothing),
)
