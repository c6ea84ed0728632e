# SPDX-License-Identifier: Apache-2.0
"""The little of CUDA that running an engine needs, through the driver library that comes with every GPU driver.

The driver's interface is stable across CUDA versions and is there on desktop and Jetson without a toolkit.
"""

from __future__ import annotations

import ctypes
from typing import Any

from numpy.typing import NDArray

from perception_models.runtime.errors import UnsupportedBackend

DRIVER = "libcuda.so.1"
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


class CudaDevice:
    """The first GPU: its name, memory, copies and one stream. Its context is made current in the calling thread.

    Raises UnsupportedBackend where there is no driver or no GPU, RuntimeError when a call fails later.
    """

    def __init__(self) -> None:
        try:
            self._driver = ctypes.CDLL(DRIVER)
            self._call("cuInit", 0)
            self._device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(self._device), 0)
        except (OSError, RuntimeError) as error:
            raise UnsupportedBackend(f"no NVIDIA GPU can be used here ({error})") from error
        self._context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._device)
        self.activate()
        self._stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(self._stream), 0)
        self._allocated: list[int] = []

    @property
    def name(self) -> str:
        """The GPU's name, as "Orin"."""
        buffer = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", buffer, len(buffer), self._device)
        return buffer.value.decode()

    @property
    def compute_capability(self) -> str:
        """The GPU's compute capability, as "SM87"."""
        return f"SM{self._attribute(COMPUTE_CAPABILITY_MAJOR)}{self._attribute(COMPUTE_CAPABILITY_MINOR)}"

    @property
    def stream(self) -> int:
        """The handle of the stream on which everything runs."""
        return self._stream.value or 0

    def activate(self) -> None:
        """Use this device in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of device memory, which live until `close`."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        self._allocated.append(address.value)
        return address.value

    def upload(self, address: int, array: NDArray[Any]) -> None:
        """Copy a contiguous array to the device, in stream order."""
        source, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(address), source, size, self._stream)

    def download(self, array: NDArray[Any], address: int) -> None:
        """Fill a contiguous array from the device, in stream order; valid after `synchronize`."""
        target, size = ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes)
        self._call("cuMemcpyDtoHAsync_v2", target, ctypes.c_uint64(address), size, self._stream)

    def synchronize(self) -> None:
        """Wait for everything on the stream."""
        self._call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Free the memory and the stream, and let go of the device."""
        self.activate()
        for address in self._allocated:
            self._call("cuMemFree_v2", ctypes.c_uint64(address))
        self._call("cuStreamDestroy_v2", self._stream)
        self._call("cuDevicePrimaryCtxRelease_v2", self._device)

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), attribute, self._device)
        return value.value

    def _call(self, function: str, *arguments: Any) -> None:
        status = getattr(self._driver, function)(*arguments)
        if status:
            text = ctypes.c_char_p()
            self._driver.cuGetErrorString(status, ctypes.byref(text))
            raise RuntimeError(f"{function}: {(text.value or b'unknown error').decode()} ({status})")
