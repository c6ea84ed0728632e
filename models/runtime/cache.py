# SPDX-License-Identifier: Apache-2.0
"""The engine cache: built engines on disk, never stale, never half written, never trusted without a checksum.

A file is `PREFIX | header (JSON: key and meta) | plan`; the prefix holds both lengths and the SHA-256 of what follows.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from perception_models.runtime.errors import BadEngine
from perception_models.user_cache import user_cache

MAGIC = b"PNENGINE"
VERSION = 1
PREFIX = struct.Struct("<8sIIQ32s")  # magic, version, header bytes, plan bytes, SHA-256 of header and plan

Opened = TypeVar("Opened")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineKey:
    """Everything that an engine depends on; two engines with equal keys are interchangeable."""

    model: str  # task/variant: only to make file names readable
    onnx_sha256: str
    tensorrt: str  # library and version
    gpu: str
    compute_capability: str
    precision: str  # the precision asked for
    profile: str  # static shapes, and what the precision gate depends on

    @property
    def filename(self) -> str:
        """A readable name that is unique to the key."""
        digest = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"{self.model.replace('/', '-')}-{self.precision}-{digest[:24]}.engine"


@dataclass(frozen=True)
class CachedEngine:
    """A serialised engine with what was found out while building it: "precision", and "rejected" with its reason."""

    plan: bytes
    meta: dict[str, str] = field(default_factory=dict)


class EngineCache:
    """A folder of engines that several processes may share."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or user_cache("engines")

    def open_or_build(
        self, key: EngineKey, build: Callable[[], CachedEngine], open_engine: Callable[[CachedEngine], Opened]
    ) -> tuple[Opened, str]:
        """Open the cached engine of `key`, or build, keep and open it; returns it with "hit" or "built".

        `open_engine` raises BadEngine for an engine that TensorRT refuses: a cached one is set aside and built once
        more, a new one is not kept and the error goes to the caller.
        A second process asking for the same key waits for the first one's build.
        """
        with self._locked(key):
            cached = self.load(key)
            if cached is not None:
                try:
                    return open_engine(cached), "hit"
                except BadEngine as error:
                    self._quarantine(key, error)
            built = build()
            opened = open_engine(built)
            self.store(key, built)
        return opened, "built"

    def load(self, key: EngineKey) -> CachedEngine | None:
        """The cached engine, or None; a file with anything wrong in it is set aside with one warning."""
        path = self.folder / key.filename
        try:
            return _decode(path.read_bytes(), key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (BadEngine, OSError) as error:
            self._quarantine(key, error)
            return None

    def store(self, key: EngineKey, engine: CachedEngine) -> None:
        """Keep an engine: readers see the whole file or none. A cache that cannot be written costs one warning."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write(self.folder / key.filename, _encode(key, engine))
        except OSError as error:
            log.warning("engine cache %s cannot be written (%s): the next start builds again", self.folder, error)

    def _write(self, path: Path, content: bytes) -> None:
        for leftover in self.folder.glob(f"{path.name}.*.tmp"):  # of a writer that was killed; we hold its lock
            leftover.unlink(missing_ok=True)
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f"{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(self.folder)

    def _quarantine(self, key: EngineKey, reason: Exception) -> None:
        path = self.folder / key.filename
        log.warning("cached engine %s is set aside as .bad and built again: %s", path, reason)
        try:
            path.replace(path.with_suffix(".bad"))
        except OSError as error:  # a read-only cache: the bad file stays and is refused each time
            log.warning("it could not be renamed: %s", error)

    @contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        """Hold the lock of one key; the kernel drops it when a process dies."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            file = (self.folder / key.filename).with_suffix(".lock").open("ab")
        except OSError:  # not writable, so nobody can write two engines either; `store` says so
            yield
            return
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _encode(key: EngineKey, engine: CachedEngine) -> bytes:
    header = json.dumps({"key": asdict(key), "meta": engine.meta}).encode()
    checksum = hashlib.sha256(header + engine.plan).digest()
    return PREFIX.pack(MAGIC, VERSION, len(header), len(engine.plan), checksum) + header + engine.plan


def _decode(content: bytes, key: EngineKey) -> CachedEngine:
    if len(content) < PREFIX.size:
        raise BadEngine(f"it has {len(content)} bytes, fewer than its prefix")
    magic, version, header_length, plan_length, checksum = PREFIX.unpack_from(content)
    if (magic, version) != (MAGIC, VERSION):
        raise BadEngine(f"it is not an engine file of format {VERSION}")
    body = content[PREFIX.size :]
    if len(body) != header_length + plan_length:
        raise BadEngine(f"it has {len(body)} bytes after its prefix instead of {header_length + plan_length}")
    if hashlib.sha256(body).digest() != checksum:
        raise BadEngine("its checksum is wrong")
    header = json.loads(body[:header_length])
    foreign = [name for name, value in asdict(key).items() if header["key"].get(name) != value]
    if foreign:
        raise BadEngine(f"it was built for another {', '.join(foreign)}")
    return CachedEngine(body[header_length:], header["meta"])


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
