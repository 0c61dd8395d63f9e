"""How versions of a value share their bytes: each stores what is new, and refers to earlier versions for the rest.

A version stores bytes of its own and a list of pieces: ranges of its own bytes and of those of other versions, its
sources, which together are the value. A source has its bytes itself, so that a value is read from the rows of its
sources alone, however many versions came before. When sources pile up, the smallest are copied into the next version:
there are less than eight of each order of magnitude (a factor of 8), so that a value that grows by appending copies
each byte about once for each order of magnitude of its size.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from agentstore.offload import spend

COMPARED_FROM = 1_000
"""The size in bytes from which values are compared with earlier versions."""
# Shorter matches are not worth a piece; and what is searched for to continue after a difference.
_SHORTEST = 128
# How far after a difference the values are compared to find where they agree again.
_DISTANCES = (0, 2, 8, 32, 128, 512, 2_048, 8_192, 32_768)
_MAX_DIFFERENCES = 32
_MAX_PIECES = 200
_PER_TIER = 8
# The effort of comparing what counts as a byte, see agentstore.offload.
_EFFORT = 50
# Smaller data is not worth the time and the frame.
_PACKED_FROM = 100


class Piece(NamedTuple):
    """A range of the bytes of a version."""

    source: str
    offset: int
    length: int


class Composed(NamedTuple):
    """A version of a value, and where its bytes are stored."""

    version: str
    value: bytes
    pieces: tuple[Piece, ...]
    sizes: Mapping[str, int]
    """How many bytes of its own each source has, this version included."""


class Own(NamedTuple):
    """What is stored of a version."""

    data: bytes
    sources: list[str] | None
    pieces: bytes | None


def whole(version: str, value: bytes) -> Composed:
    """Return a version that has all of its bytes itself."""
    return Composed(version, value, (Piece(version, 0, len(value)),), {version: len(value)})


def compose(version: str, value: bytes, previous: Composed | None) -> Composed:
    """Return the version of a value with the least bytes of its own, given another version."""
    if previous is None or min(len(value), len(previous.value)) < COMPARED_FROM or version in previous.sizes:
        return whole(version, value)
    spend((len(value) + len(previous.value)) // _EFFORT)
    pieces = _reused(value, previous)
    used: dict[str, int] = {}
    for piece, _ in pieces:
        used[piece.source] = used.get(piece.source, 0) + piece.length
    copied = _to_copy(used, previous.sizes)
    result: list[Piece] = []
    own = 0
    end = 0
    for piece, start in pieces:
        if piece.source in copied:
            continue
        own = _extend(result, version, own, start - end)
        result.append(piece)
        end = start + piece.length
    own = _extend(result, version, own, len(value) - end)
    if len(result) > _MAX_PIECES:
        return whole(version, value)
    sizes = {piece.source: previous.sizes[piece.source] for piece in result if piece.source != version}
    return Composed(version, value, tuple(result), {**sizes, version: own})


def _extend(pieces: list[Piece], version: str, own: int, length: int) -> int:
    """Append a piece of the version's own bytes, unless it is empty; return how many bytes it has then."""
    if length:
        pieces.append(Piece(version, own, length))
    return own + length


def _reused(value: bytes, previous: Composed) -> list[tuple[Piece, int]]:
    """Return the pieces of the previous version that a value has, and where each begins in the value."""
    found: list[tuple[Piece, int]] = []
    place, old = 0, 0  # the piece of the previous version, and where it begins
    for new_start, old_start, length in _matches(previous.value, value):
        end = old_start + length
        while old < end:
            piece = previous.pieces[place]
            first, last = max(old, old_start), min(old + piece.length, end)
            if last > first:
                part = Piece(piece.source, piece.offset + first - old, last - first)
                found.append((part, new_start + first - old_start))
            if old + piece.length > end:
                break
            old += piece.length
            place += 1
    return found


def _matches(old: bytes, new: bytes) -> list[tuple[int, int, int]]:
    """Return the ranges that two values have in common, in order: the starts in `new` and `old`, and the length."""
    found = []
    i = j = 0
    for _ in range(_MAX_DIFFERENCES):
        length = _common(old, i, new, j)
        if length >= _SHORTEST:
            found.append((j, i, length))
        i, j = i + length, j + length
        if i >= len(old) or j >= len(new):
            break
        following = _agree_again(old, i, new, j)
        if following is None:
            break
        i, j = following
    return found


def _common(old: bytes, i: int, new: bytes, j: int) -> int:
    """Return how many bytes two values have in common from two places on."""
    most = min(len(old) - i, len(new) - j)
    length, step = 0, _SHORTEST
    while length < most:
        step = min(step, most - length)
        if old[i + length : i + length + step] == new[j + length : j + length + step]:
            length += step
            step *= 4
        elif step == 1:
            break
        else:
            step = max(1, step // 4)
    return length


def _agree_again(old: bytes, i: int, new: bytes, j: int) -> tuple[int, int] | None:
    """Return places in two values that differ at `i` and `j` from which on they agree again."""
    for distance in _DISTANCES:
        anchor = old[i + distance : i + distance + _SHORTEST]
        if len(anchor) == _SHORTEST and (place := new.find(anchor, j)) >= 0:
            return _extended_back(old, i, i + distance, new, j, place)
        anchor = new[j + distance : j + distance + _SHORTEST]
        if len(anchor) == _SHORTEST and (place := old.find(anchor, i)) >= 0:
            return _extended_back(old, i, place, new, j, j + distance)
    return None


def _extended_back(old: bytes, i: int, in_old: int, new: bytes, j: int, in_new: int) -> tuple[int, int]:
    while in_old > i and in_new > j and old[in_old - 1] == new[in_new - 1]:
        in_old, in_new = in_old - 1, in_new - 1
    return in_old, in_new


def _to_copy(used: Mapping[str, int], sizes: Mapping[str, int]) -> set[str]:
    """Return the sources whose used bytes are to be copied: see the module."""
    copied = {source for source, length in used.items() if length * 4 < sizes[source]}
    tiers: dict[int, list[str]] = {}
    for source, length in used.items():
        if source not in copied:
            tiers.setdefault(max(0, length.bit_length() - 8) // 3, []).append(source)
    for sources in tiers.values():
        if len(sources) >= _PER_TIER:
            copied.update(sources)
    return copied


def own_of(composed: Composed) -> Own:
    """Return what is stored of a version."""
    version, value, pieces, _ = composed
    if len(pieces) == 1 and pieces[0].source == version:
        return Own(value, None, None)
    sources = list(dict.fromkeys(piece.source for piece in pieces if piece.source != version))
    numbers = {version: 0, **{source: number for number, source in enumerate(sources, 1)}}
    own, encoded, start = bytearray(), bytearray(), 0
    for piece in pieces:
        _write(encoded, numbers[piece.source])
        _write(encoded, piece.length)
        if piece.source == version:
            own += value[start : start + piece.length]
        else:
            _write(encoded, piece.offset)
        start += piece.length
    return Own(bytes(own), sources, bytes(encoded))


def join(version: str, own: Own, data: Mapping[str, bytes]) -> Composed:
    """Return a version, given the own bytes of its sources.

    Raises:
        ValueError: a source is missing, or the pieces are not valid.
    """
    if own.pieces is None:
        return whole(version, own.data)
    try:
        return _joined(version, own, own.pieces, data)
    except (IndexError, KeyError) as error:
        raise ValueError(f"the pieces of version {version!r} are not complete: {error!r}") from error


def _joined(version: str, own: Own, encoded: bytes, data: Mapping[str, bytes]) -> Composed:
    sources = [version, *(own.sources or ())]
    parts: list[bytes] = []
    pieces: list[Piece] = []
    sizes = {version: len(own.data)}
    numbers = _read(encoded)
    own_offset = 0
    while numbers:
        number, length = numbers.pop(), numbers.pop()
        source = sources[number]
        if number:
            offset, of_source = numbers.pop(), data[source]
            sizes[source] = len(of_source)
        else:
            offset, of_source = own_offset, own.data
            own_offset += length
        part = of_source[offset : offset + length]
        if len(part) != length:
            raise ValueError(f"version {source!r} has {len(of_source)} bytes, expected {offset + length}")
        parts.append(part)
        pieces.append(Piece(source, offset, length))
    return Composed(version, b"".join(parts), tuple(pieces), sizes)


def check_pieces(encoded: bytes, versions: Sequence[str], sizes: Mapping[str, int]) -> int:
    """Check pieces of bytes that these versions have, the value's own one first; return the size of the value.

    Raises:
        ValueError: they are not valid, or refer to bytes that the versions do not have.
    """
    numbers = _read(encoded)
    own = total = 0
    try:
        while numbers:
            number, length = numbers.pop(), numbers.pop()
            end = (numbers.pop() if number else own) + length
            own = own if number else end
            total += length
            if end > sizes[versions[number]]:
                raise ValueError(f"version {versions[number]!r} has no {end} bytes")
    except (IndexError, KeyError) as error:
        raise ValueError(f"the pieces are not complete: {error!r}") from error
    return total


def _write(encoded: bytearray, number: int) -> None:
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    encoded.append(number)


def _read(encoded: bytes) -> list[int]:
    """Return the numbers in an encoding, the last one first."""
    numbers, number, shift = [], 0, 0
    for byte in encoded:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(number)
            number = shift = 0
    if shift:
        raise ValueError("the pieces end within a number")
    return numbers[::-1]


def pack(data: bytes) -> bytes:
    """Compress data, unless that does not make it smaller."""
    if len(data) < _PACKED_FROM:
        return data
    import zstandard

    spend(len(data) // _EFFORT)
    packed = zstandard.ZstdCompressor(level=3, write_checksum=False).compress(data)
    return packed if len(packed) < len(data) else data


def unpack(data: bytes, size: int) -> bytes:
    """Return data of this size without compression.

    Raises:
        ValueError: it is not such data.
    """
    if len(data) == size:
        return data
    import zstandard

    spend(size // _EFFORT)
    try:
        unpacked = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
    except zstandard.ZstdError as error:
        raise ValueError("it is not a Zstandard frame") from error
    if len(unpacked) != size:
        raise ValueError(f"it has {len(unpacked)} bytes, expected {size}")
    return unpacked
