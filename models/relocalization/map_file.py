# SPDX-License-Identifier: Apache-2.0
"""One file a map: eight bytes of name and version, the SHA-256 of the rest, and a compressed NumPy archive."""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perception_models.relocalization.features import Floats, unit
from perception_models.relocalization.landmarks import LEVELS, Landmarks
from perception_models.relocalization.line_landmarks import LineLandmarks

VERSION = 2
MAGIC = b"PNMAP" + VERSION.to_bytes(3, "little")
FACTS = ("features", "figures", "is_metric")
STEPS = 65535  # of a coordinate, over the extent of the map: a fifth of a millimetre for 13 m


class BadMap(RuntimeError):
    """The map file is missing, damaged, or of another version."""


def write_map(path: Path, landmarks: Landmarks, network: bytes, facts: Mapping[str, Any]) -> Path:
    """Write the file, whole or not at all -> its path. Coordinates and descriptors are rounded to 16 and 8 bits; the
    facts are FACTS."""
    content = io.BytesIO()
    arrays = {
        **_packed(landmarks),
        "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
        "network": np.frombuffer(network, np.uint8),
    }
    np.savez_compressed(content, allow_pickle=False, **arrays)
    body = content.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_bytes(MAGIC + hashlib.sha256(body).digest() + body)
    return unfinished.replace(path)


def read_map(path: Path) -> tuple[Landmarks, bytes, dict[str, Any]]:
    """Landmarks, network, facts. Raises BadMap, saying what is wrong and what to do."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadMap(f"no map can be read at {path} ({error}); build one with `perception map build`") from error
    body = content[len(MAGIC) + 32 :]
    if content[:5] != MAGIC[:5]:
        raise BadMap(f"{path} is not a map of this project")
    if content[: len(MAGIC)] != MAGIC:
        version = int.from_bytes(content[5:8], "little")
        raise BadMap(f"{path} has version {version} of the format, this program reads {VERSION}; build the map again")
    if hashlib.sha256(body).digest() != content[len(MAGIC) : len(MAGIC) + 32]:
        raise BadMap(f"{path} is damaged: its checksum does not fit its content; copy or build it again")
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        facts = json.loads(arrays["facts"].tobytes())
        return _unpacked(arrays), arrays["network"].tobytes(), {name: facts[name] for name in FACTS}
    except (KeyError, ValueError, zipfile.BadZipFile) as error:
        raise BadMap(f"{path} lacks a part of a map ({error}); build it again") from error


def _packed(landmarks: Landmarks) -> dict[str, NDArray[Any]]:
    index = np.uint16 if len(landmarks) <= STEPS else np.uint32
    return {
        **_rounded("positions", landmarks.positions),
        "descriptors": np.rint(landmarks.descriptors / landmarks.step).astype(np.int8),
        "step": np.array(landmarks.step),
        "poses": landmarks.poses,
        "seen": landmarks.seen.astype(index),
        "starts": landmarks.starts.astype(np.int64),
        **_rounded("line_ends", landmarks.lines.ends),
        "line_descriptors": np.rint(landmarks.lines.descriptors * LEVELS).astype(np.int8),
    }


def _unpacked(arrays: Mapping[str, NDArray[Any]]) -> Landmarks:
    step = float(arrays["step"])
    return Landmarks(
        _exact("positions", arrays),
        arrays["descriptors"].astype(np.float32) * np.float32(step),
        step,
        arrays["poses"],
        arrays["seen"].astype(np.int64),
        arrays["starts"],
        LineLandmarks(_exact("line_ends", arrays), unit(arrays["line_descriptors"].astype(np.float32))),
    )


def _rounded(name: str, points: Floats) -> dict[str, NDArray[Any]]:
    """Points (..., 3) in 65535 steps of the box that holds them."""
    every = points.reshape(-1, 3).astype(np.float64)
    low, size = (every.min(0), np.ptp(every, axis=0)) if len(every) else (np.zeros(3), np.ones(3))
    scale = np.maximum(size, 1e-6) / STEPS
    return {name: np.rint((points - low) / scale).astype(np.uint16), f"{name}_origin": low, f"{name}_scale": scale}


def _exact(name: str, arrays: Mapping[str, NDArray[Any]]) -> Floats:
    points = arrays[name] * arrays[f"{name}_scale"] + arrays[f"{name}_origin"]
    return np.asarray(points, np.float32)
