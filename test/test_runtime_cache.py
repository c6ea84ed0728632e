# SPDX-License-Identifier: Apache-2.0
"""The engine cache under everything that can happen to a file."""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from perception_models.runtime import cache as cache_module
from perception_models.runtime.cache import CachedEngine, EngineCache, EngineKey
from perception_models.runtime.errors import BadEngine

KEY = EngineKey("tiny/compact", "ab" * 32, "tensorrt 10.3.0", "Orin", "SM87", "fp16", "points 32x8")
ENGINE = CachedEngine(bytes(range(256)) * 40, {"precision": "fp16"})


def keep(engine: CachedEngine) -> CachedEngine:
    return engine


def must_not_build() -> CachedEngine:
    raise AssertionError("the cached engine was not used")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    cache = EngineCache(tmp_path / "engines")
    cache.store(KEY, ENGINE)
    return cache


def files(cache: EngineCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if path.suffix != ".lock"}


def test_a_built_engine_is_found_again(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "new" / "engines")
    assert cache.open_or_build(KEY, lambda: ENGINE, keep) == (ENGINE, "built")
    assert cache.open_or_build(KEY, must_not_build, keep) == (ENGINE, "hit")
    assert files(cache) == {KEY.filename}


@pytest.mark.parametrize("field", EngineKey.__dataclass_fields__)
def test_an_engine_is_never_used_for_another_key(cache: EngineCache, field: str) -> None:
    other = replace(KEY, **{field: "another"})
    assert cache.load(other) is None
    (cache.folder / KEY.filename).rename(cache.folder / other.filename)  # a copied or renamed file is found out
    assert cache.load(other) is None
    assert files(cache) == {Path(other.filename).with_suffix(".bad").name}


def truncated_in_prefix(content: bytes) -> bytes:
    return content[:20]


def truncated_in_plan(content: bytes) -> bytes:
    return content[:-1]


def emptied(content: bytes) -> bytes:
    return b""


def lengthened(content: bytes) -> bytes:
    return content + b"\0"


def of_another_format(content: bytes) -> bytes:
    return content[:8] + (cache_module.VERSION + 1).to_bytes(4, "little") + content[12:]


def of_another_program(content: bytes) -> bytes:
    return b"ftrt" + content[4:]


@pytest.mark.parametrize(
    "damage",
    [truncated_in_prefix, truncated_in_plan, emptied, lengthened, of_another_format, of_another_program],
)
def test_a_damaged_file_is_set_aside_and_built_again_with_one_warning(
    cache: EngineCache, damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.folder / KEY.filename
    path.write_bytes(damage(path.read_bytes()))
    assert cache.open_or_build(KEY, lambda: ENGINE, keep) == (ENGINE, "built")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert files(cache) == {KEY.filename, path.with_suffix(".bad").name}
    assert cache.open_or_build(KEY, must_not_build, keep) == (ENGINE, "hit")


def test_a_flipped_bit_anywhere_is_found(cache: EngineCache) -> None:
    path = cache.folder / KEY.filename
    content = path.read_bytes()
    for position in [*range(0, 600), *range(600, len(content), 97), len(content) - 1]:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        assert cache.load(KEY) is None, position


def test_an_engine_that_tensorrt_refuses_is_built_once_more(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    rebuilt = CachedEngine(b"new", {"precision": "fp16"})

    def open_engine(engine: CachedEngine) -> CachedEngine:
        if engine == ENGINE:
            raise BadEngine("TensorRT refuses it")
        return engine

    assert cache.open_or_build(KEY, lambda: rebuilt, open_engine) == (rebuilt, "built")
    assert len(caplog.records) == 1 and "TensorRT refuses it" in caplog.text
    assert cache.load(KEY) == rebuilt


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)

    def fail() -> CachedEngine:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.open_or_build(KEY, fail, keep)
    assert files(cache) == set()


def test_a_failed_write_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    cache = EngineCache(tmp_path)
    assert cache.open_or_build(KEY, lambda: ENGINE, keep) == (ENGINE, "built")
    assert files(cache) == set()
    assert len(caplog.records) == 1 and "No space left" in caplog.text


def test_a_cache_that_cannot_exist_still_gives_an_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = EngineCache(tmp_path / "file" / "engines")
    assert cache.open_or_build(KEY, lambda: ENGINE, keep) == (ENGINE, "built")
    assert len(caplog.records) == 1 and "cannot be written" in caplog.text


def test_what_a_killed_writer_left_is_cleared_away(cache: EngineCache) -> None:
    (cache.folder / f"{KEY.filename}.abc123.tmp").write_bytes(b"half")
    cache.store(KEY, ENGINE)
    assert files(cache) == {KEY.filename}


def build_slowly(folder: Path, log: Path) -> None:
    def build() -> CachedEngine:
        with log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(0.5)
        return ENGINE

    opened, _ = EngineCache(folder).open_or_build(KEY, build, keep)
    assert opened == ENGINE


def test_of_two_processes_one_builds_and_the_other_waits_for_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    log = tmp_path / "builds.txt"
    writers = [context.Process(target=build_slowly, args=(tmp_path / "engines", log)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert len(log.read_text().splitlines()) == 1
    assert files(EngineCache(tmp_path / "engines")) == {KEY.filename}


def store_for_ever(folder: Path) -> None:
    while True:
        EngineCache(folder).store(KEY, ENGINE)


def test_a_writer_killed_at_any_moment_leaves_a_whole_file_or_none(tmp_path: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=store_for_ever, args=(tmp_path,))
    writer.start()
    while not (tmp_path / KEY.filename).exists():
        time.sleep(0.01)
    for _ in range(20):
        assert EngineCache(tmp_path).load(KEY) == ENGINE  # while it is being replaced
    writer.kill()
    writer.join(60)
    assert EngineCache(tmp_path).open_or_build(KEY, must_not_build, keep) == (ENGINE, "hit")


def test_the_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PERCEPTION_CACHE", str(tmp_path))
    assert EngineCache().folder == tmp_path / "engines"
    monkeypatch.delenv("PERCEPTION_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert EngineCache().folder == tmp_path / "perception_nodes" / "engines"
