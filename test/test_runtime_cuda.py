# SPDX-License-Identifier: Apache-2.0
"""The driver calls, checked against a stand-in library with the driver's prototypes and 64-bit handles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from perception_models.runtime import UnsupportedBackend, cuda
from perception_models.runtime.cuda import CudaDevice

# Handles have high bits set, so that one passed as a 32-bit integer is refused; device memory is host memory.
DRIVER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef unsigned long long ptr;
static void *const context = (void *)0x7f12345678abcdefULL, *const stream = (void *)0x7e12345678abcdefULL;
static const ptr tag = 1ULL << 62;
static int live = 0;
int live_objects(void) { return live; }
int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 3; return ordinal != 0; }
int cuDeviceGetName(char *name, int length, int device) { snprintf(name, length, "Orin"); return device != 3; }
int cuDeviceGetAttribute(int *value, int what, int device) { *value = what == 75 ? 8 : 7; return device != 3; }
int cuDevicePrimaryCtxRetain(void **out, int device) { *out = context; live++; return device != 3; }
int cuDevicePrimaryCtxRelease_v2(int device) { live--; return device != 3; }
int cuCtxSetCurrent(void *given) { return given == context ? 0 : 201; }
int cuStreamCreate(void **out, unsigned flags) { *out = stream; live++; return flags != 0; }
int cuStreamSynchronize(void *given) { return given == stream ? 0 : 400; }
int cuStreamDestroy_v2(void *given) { live--; return given == stream ? 0 : 400; }
int cuMemAlloc_v2(ptr *out, size_t size) {
    if (size > 1ULL << 33) return 2;
    *out = (ptr)malloc(size) | tag; live++; return 0;
}
int cuMemFree_v2(ptr address) { free((void *)(address & ~tag)); live--; return !(address & tag); }
int cuMemcpyHtoDAsync_v2(ptr to, const void *from, size_t size, void *on) {
    if (on != stream || !(to & tag)) return 1;
    memcpy((void *)(to & ~tag), from, size); return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t size, void *on) {
    if (on != stream || !(from & tag)) return 1;
    memcpy(to, (void *)(from & ~tag), size); return 0;
}
int cuGetErrorString(int error, const char **text) { *text = error == 2 ? "out of memory" : "failed"; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in driver")
    source, library = tmp_path / "driver.c", tmp_path / "driver.so"
    source.write_text(DRIVER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setattr(cuda, "DRIVER", str(library))


@pytest.mark.usefixtures("driver")
def test_what_is_uploaded_comes_back() -> None:
    device = CudaDevice()
    sent, received = np.arange(12, dtype=np.float32).reshape(3, 4), np.empty((3, 4), np.float32)
    address = device.allocate(sent.nbytes)
    device.upload(address, sent)
    device.download(received, address)
    device.synchronize()
    np.testing.assert_array_equal(received, sent)
    device.close()


@pytest.mark.usefixtures("driver")
def test_the_device_names_itself() -> None:
    device = CudaDevice()
    assert (device.name, device.compute_capability) == ("Orin", "SM87")
    device.close()


@pytest.mark.usefixtures("driver")
def test_closing_gives_everything_back() -> None:
    device = CudaDevice()
    for size in (0, 10, 1000):
        device.allocate(size)
    assert device._driver.live_objects() == 5
    device.close()
    assert device._driver.live_objects() == 0


@pytest.mark.usefixtures("driver")
def test_a_failing_call_is_named_with_its_reason() -> None:
    device = CudaDevice()
    with pytest.raises(RuntimeError, match=r"cuMemAlloc_v2: out of memory \(2\)"):
        device.allocate(1 << 40)
    device.close()


def test_a_machine_without_a_driver_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "DRIVER", "libno_such_driver.so")
    with pytest.raises(UnsupportedBackend, match="no NVIDIA GPU can be used here"):
        CudaDevice()
