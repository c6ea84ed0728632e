# SPDX-License-Identifier: Apache-2.0
"""Free textured models of furniture (Debian's sweethome3d-furniture, CC0 and CC-BY) and photographs (KDE's wallpapers).

For the workshop only: `python -m perception_models.simulation.room_models` fetches and prepares them once. Without them
rooms are made of procedural shapes and pictures alone. None of them is part of the package.
"""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from perception_models.simulation import assets
from perception_models.simulation.room_mesh import Image, Skin, Thing
from perception_models.simulation.shapes import Mesh
from perception_models.simulation.textured_obj import IMAGE_SIZE, read_textured

FOLDER = assets.FOLDER / "rooms"
PHOTOS = "plasma-workspace-wallpapers"
CROPS = 8  # of each photograph
CATEGORIES = ("Bathroom", "Bedroom", "Kitchen", "Lights", "Living room", "Miscellaneous", "Office")
MOST_BYTES = 600_000
UNFIT = ("street", "lamppost", "fence", "railing", "mower", "chimney", "cone", "urinal", "shower", "tatami", "carpet")
SEATS = ("chair", "stool", "seat", "puff")


def fetch() -> None:
    """Download the packages with apt-get and prepare models and photographs. Says what it leaves out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    number = 0
    for archive in sorted(assets.catalogues().glob("*.sh3f")):
        with zipfile.ZipFile(archive) as opened:
            for entry in _entries(opened):
                role = _role(entry)
                try:
                    if role:
                        _save(FOLDER / f"{role}-{number:04d}.npz", _sized(read_textured(opened, entry["model"]), entry))
                        number += 1
                except ValueError as error:
                    print(f"left out: {error}")
    assets.unpack(PHOTOS)
    for index, crop in enumerate(_crops(assets.FOLDER / "usr" / "share" / "wallpapers")):
        cv2.imwrite(str(FOLDER / f"photo-{index:04d}.jpg"), crop)


def _entries(archive: zipfile.ZipFile) -> Iterator[dict[str, str]]:
    """What the catalogue of an archive says of each model: lines `key#number=value`."""
    entries: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for line in archive.read("PluginFurnitureCatalog.properties").decode("latin1").splitlines():
        name, _, value = line.partition("=")
        key, mark, number = name.partition("#")
        if mark and number.isdecimal():
            entries[number][key] = value.strip()
    known = set(archive.namelist())
    for entry in entries.values():
        entry["model"] = entry.get("model", "").lstrip("/")
        if entry["model"] in known and archive.getinfo(entry["model"]).file_size <= MOST_BYTES:
            yield entry


def _role(entry: dict[str, str]) -> str:
    """What a model is used as: seat, table, clutter, piece (stands along a wall), or nothing."""
    name, size = entry["name"].lower(), [float(entry[key]) / 100 for key in ("depth", "width", "height")]
    hangs = "elevation" in entry or "modelRotation" in entry or entry.get("doorOrWindow") == "true"
    if hangs or entry.get("category") not in CATEGORIES or any(word in name for word in UNFIT):
        return ""
    if max(size) < 0.5:
        return "clutter" if size[2] > 0.02 and max(size) > 0.05 else ""
    if any(word in name for word in SEATS) and 0.4 < size[2] < 1.2:
        return "seat"
    if ("table" in name or "desk" in name) and 0.35 < size[2] < 0.9 and max(size) < 2.2:
        return "table"
    return "piece" if size[0] < 1.2 and size[1] < 2.4 and 0.3 < size[2] < 2.4 else ""


def _sized(model: tuple[Mesh, Skin], entry: dict[str, str]) -> Thing:
    """The model in metres, standing centred on z = 0, of the size that the catalogue tells."""
    mesh, skin = model
    if min(mesh.size) <= 0:
        raise ValueError(f"{entry['model']} is flat")
    depth, width, height = (float(entry[key]) / 100 for key in ("depth", "width", "height"))
    return Thing(mesh.fitted(depth, width, height), skin=skin)


def _save(path: Path, thing: Thing) -> None:
    assert thing.skin is not None
    images = {
        f"image{number}": cv2.imencode(".jpg", image[..., ::-1])[1]
        for number, image in enumerate(thing.skin.images)
        if image is not None
    }
    mesh, skin = thing.mesh, thing.skin
    arrays: dict[str, NDArray[np.generic]] = {
        "vertices": mesh.vertices,
        "faces": mesh.faces,
        "materials": mesh.materials,
    }
    arrays |= {"uv": skin.uv.astype(np.float32), "paint": skin.paint, "colours": skin.colours, **images}
    np.savez_compressed(path, allow_pickle=False, **arrays)


def _crops(folder: Path) -> Iterator[NDArray[np.uint8]]:
    """Square pieces (IMAGE_SIZE, IMAGE_SIZE, 3), blue green red, of every photograph, the same each time."""
    rng = np.random.default_rng(0)
    for pictures in sorted(folder.glob("*/contents/images")):
        largest = max(pictures.glob("*.*"), key=lambda file: file.stat().st_size)
        image = cv2.imread(str(largest), cv2.IMREAD_REDUCED_COLOR_2)
        if image is None:
            continue
        for _ in range(CROPS):
            side = int(rng.uniform(0.3, 0.9) * min(image.shape[:2]))
            top, left = (int(rng.integers(0, n - side)) for n in image.shape[:2])
            crop = image[top : top + side, left : left + side]
            yield np.asarray(cv2.resize(crop, (IMAGE_SIZE, IMAGE_SIZE), interpolation=cv2.INTER_AREA), np.uint8)


def files(role: str) -> list[Path]:
    """The prepared models of a role, or photographs; empty where `fetch` has not been run."""
    return sorted(FOLDER.glob(f"{role}-*"))


@lru_cache(maxsize=256)
def load_model(path: Path) -> Thing:
    """One prepared model, front to +x, standing centred on z = 0."""
    with np.load(path) as stored:
        mesh = Mesh(stored["vertices"], stored["faces"], stored["materials"])
        images = tuple(
            _decode(stored[f"image{number}"]) if f"image{number}" in stored.files else None
            for number in range(len(stored["colours"]))
        )
        return Thing(mesh, skin=Skin(stored["uv"], stored["paint"], stored["colours"], images))


def load_photo(path: Path) -> Image:
    """One prepared photograph (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    return _decode(np.fromfile(path, np.uint8))


def _decode(stored: NDArray[np.uint8]) -> Image:
    image = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a prepared image cannot be read; fetch the models again")
    return np.asarray(image[..., ::-1], np.uint8)


if __name__ == "__main__":
    fetch()
