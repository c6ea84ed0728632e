# SPDX-License-Identifier: Apache-2.0
"""A node as its own process, as a robot runs it."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from perception_models.evaluation.machine import peak_memory

# With Fast DDS's defaults a cloud of 120,000 points takes more than ten times as long from process to process.
TRANSPORT = "LARGE_DATA?max_msg_size=4MB&sockets_size=4MB&non_blocking=true"


def use_fast_transport() -> None:
    """Set the DDS environment of this process and its children. Call it before a context is made.

    A discovery range of LOCALHOST must give way: with it rmw_fastrtps puts its own transports in their place, whose
    shared memory of 0.5 MB loses clouds of 1 MB and more. ROS_DOMAIN_ID keeps systems apart.
    """
    os.environ.setdefault("FASTDDS_BUILTIN_TRANSPORTS", TRANSPORT)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"


class NodeProcess:
    """Runs `python -m MODULE` with ROS parameters; its output goes to a log file. A context manager."""

    def __init__(self, module: str, parameters: Mapping[str, object], log: Path) -> None:
        assignments = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
        self._command = [sys.executable, "-m", module, "--ros-args", *assignments]
        self.log = log

    def __enter__(self) -> "NodeProcess":
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def peak_memory(self) -> float:
        """Largest resident memory so far, MB (10^6 bytes)."""
        return peak_memory(self._process.pid)

    def last_words(self, lines: int = 5) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
