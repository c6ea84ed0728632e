# SPDX-License-Identifier: Apache-2.0
"""Where the project keeps what it can make or fetch again."""

import os
from pathlib import Path


def user_cache(name: str) -> Path:
    """The folder `name` under `$PERCEPTION_CACHE`, else under `perception_nodes` in the user's cache folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("PERCEPTION_CACHE") or base / "perception_nodes") / name
