# SPDX-License-Identifier: Apache-2.0
"""Decompresses LZF, the format of Marc Lehmann's LibLZF in which PCL compresses clouds.

A block is a row of pieces. A first byte below 32 announces that many and one bytes as they are. Else its upper three
bits are a length, where 7 adds the next byte to it, and its lower five bits with the byte after that are a distance:
length and two bytes are repeated from one more than the distance before the end, beyond which they may reach.
"""

from __future__ import annotations

LITERAL = 32
LONG = 7


def decompress(data: bytes, size: int) -> bytes:
    """The `size` bytes that were compressed. Raises ValueError where the block is damaged."""
    out, at = bytearray(), 0
    try:
        while at < len(data):
            control, at = data[at], at + 1
            if control < LITERAL:
                out += data[at : at + control + 1]
                at += control + 1
                continue
            length = control >> 5
            if length == LONG:
                length, at = length + data[at], at + 1
            distance, at = ((control & 31) << 8 | data[at]) + 1, at + 1
            _repeat(out, distance, length + 2)
    except IndexError:
        raise ValueError("its compressed data end within a piece") from None
    if len(out) != size:
        raise ValueError(f"its compressed data hold {len(out)} bytes, {size} are announced")
    return bytes(out)


def _repeat(out: bytearray, distance: int, count: int) -> None:
    """Append `count` bytes from `distance` before the end; where that is nearer, the pattern goes on."""
    if distance > len(out):
        raise ValueError("its compressed data refer to what lies before their start")
    pattern = out[-distance:] if distance < count else out[-distance : len(out) - distance + count]
    out += (pattern * (count // len(pattern) + 1))[:count]
