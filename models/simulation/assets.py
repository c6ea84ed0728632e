# SPDX-License-Identifier: Apache-2.0
"""Free meshes (Debian's sweethome3d-furniture, CC0 and CC-BY) that add variety of shape to training frames.

For the workshop only: `python -m perception_models.simulation.assets` fetches and prepares them once. Without them
the simulator runs on its procedural shapes alone. None of them is part of the package.
"""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from perception_models.classes import PEDESTRIAN, VEHICLE
from perception_models.simulation.actors import ActorModel
from perception_models.simulation.obj import cluster, read_obj
from perception_models.simulation.shapes import Mesh
from perception_models.user_cache import user_cache

Rng = np.random.Generator
FOLDER = user_cache("assets")
_PREPARED = FOLDER / "prepared.npz"
_CATALOGUES = FOLDER / "usr" / "share" / "sweethome3d" / "furniture"

# Catalogue, model, extent from front to back [m]; looked at one by one.
_VEHICLES = (
    ("BlendSwap-CC-BY", "blendswap-cc-by/fordFocus/fordFocus.obj", 4.34),
    ("KatorLegaz", "katorlegaz/VW-new-beetle/VW-new-beetle.obj", 4.09),
    ("KatorLegaz", "katorlegaz/concept-sedan-01v1/concept-sedan-01v1.obj", 4.71),
    ("Scopia", "scopia/chevrolet/chevrolet.obj", 4.46),
    ("Scopia", "scopia/peugeot-308/peugeot-308.obj", 4.40),
    ("Scopia", "scopia/seat_leon/seat_leon.obj", 4.20),
    ("Scopia", "scopia/smart-car/smart-car.obj", 2.53),
    ("Scopia", "scopia/suv/suv.obj", 4.63),
    ("Scopia", "scopia/van/van.obj", 5.60),
    ("Scopia", "scopia/truck/truck.obj", 6.30),
    ("Scopia", "scopia/bus/bus.obj", 12.5),
)
_PEOPLE = (
    ("KatorLegaz", "katorlegaz/female-01-casual-clothing/female-01-casual-clothing.obj", 0.37),
    ("KatorLegaz", "katorlegaz/male-01-suit/male-01-suit.obj", 0.41),
    ("Reallusion", "reallusion/boyStanding/boyStanding.obj", 0.31),
    ("Reallusion", "reallusion/girlStanding/girlStanding.obj", 0.32),
    ("Reallusion", "reallusion/female01/female01.obj", 0.46),
    ("Reallusion", "reallusion/female02/female02.obj", 0.45),
    ("Reallusion", "reallusion/female03/female03.obj", 0.49),
    ("Reallusion", "reallusion/male01/male01.obj", 0.40),
    ("Reallusion", "reallusion/male02/male02.obj", 0.43),
    ("Reallusion", "reallusion/male03/male03.obj", 0.39),
    ("Reallusion", "reallusion/holdingFemale01/holdingFemale01.obj", 0.52),
    ("Reallusion", "reallusion/holdingMale01/holdingMale01.obj", 0.59),
)
_CLUTTER = (
    ("KatorLegaz", "katorlegaz/painted-bench/painted-bench.obj", 0.52),
    ("KatorLegaz", "katorlegaz/concrete-bench/concrete-bench.obj", 0.60),
    ("KatorLegaz", "katorlegaz/park-trashcan/park-trashcan.obj", 0.79),
    ("KatorLegaz", "katorlegaz/residential-trashcan/residential-trashcan.obj", 0.59),
    ("KatorLegaz", "katorlegaz/fire-hydrant/fire-hydrant.obj", 0.33),
    ("KatorLegaz", "katorlegaz/scooter/scooter.obj", 1.75),
    ("BlendSwap-CC-0", "blendswap-cc-0/childHut/childHut.obj", 5.21),
    ("BlendSwap-CC-0", "blendswap-cc-0/childSwing/childSwing.obj", 1.25),
    ("BlendSwap-CC-0", "blendswap-cc-0/wheelbarrow/wheelbarrow.obj", 0.60),
    ("BlendSwap-CC-0", "blendswap-cc-0/umbrella/umbrella.obj", 2.23),
    ("BlendSwap-CC-BY", "blendswap-cc-by/fountain/fountain.obj", 1.85),
    ("BlendSwap-CC-BY", "blendswap-cc-by/rowboat/rowboat.obj", 3.09),
    ("Scopia", "scopia/barnum/barnum.obj", 3.00),
    ("Scopia", "scopia/campingTent/campingTent.obj", 2.36),
    ("Scopia", "scopia/garden-hut/garden-hut.obj", 1.82),
    ("Scopia", "scopia/football-goal/football-goal.obj", 0.89),
    ("Scopia", "scopia/parque/parque.obj", 0.96),
    ("Scopia", "scopia/trampoline/trampoline.obj", 3.00),
    ("Scopia", "scopia/hammock/hammock.obj", 1.64),
    ("Scopia", "scopia/rattanSofa/rattanSofa.obj", 0.72),
    ("Scopia", "scopia/scooter2/scooter2.obj", 1.73),
    ("Scopia", "scopia/yamaha-yzr-r6/yamaha-yzr-r6.obj", 2.03),
    ("Scopia", "scopia/wood_bank/wood_bank.obj", 1.00),
    ("Scopia", "scopia/passage-a-niveau/passage-a-niveau.obj", 0.93),
)
# Sources, and the most triangles that one of them may have.
_GROUPS = {"vehicle": (_VEHICLES, 4000), "pedestrian": (_PEOPLE, 1500), "clutter": (_CLUTTER, 1500)}


@dataclass(frozen=True)
class Assets:
    """Prepared meshes in metres, front to +x, centred over z = 0; empty lists where nothing was fetched."""

    vehicles: list[Mesh] = field(default_factory=list)
    people: list[Mesh] = field(default_factory=list)
    clutter: list[Mesh] = field(default_factory=list)

    def vehicle(self, rng: Rng) -> ActorModel:
        """One of the vehicles, stretched a little; its box encloses the body without mirrors."""
        mesh = _stretched(self.vehicles, rng, 0.06)
        length, _, height = mesh.size
        width = 2 * float(np.abs(mesh.vertices[mesh.vertices[:, 2] < 0.42 * height, 1]).max())
        return ActorModel(VEHICLE, "asset", mesh, (length, width, height))

    def pedestrian(self, rng: Rng) -> ActorModel:
        """One of the people, taller or shorter."""
        mesh = _stretched(self.people, rng, 0.08)
        return ActorModel(PEDESTRIAN, "asset", mesh, mesh.size)

    def thing(self, rng: Rng) -> Mesh:
        """One of the things that are neither."""
        return _stretched(self.clutter, rng, 0.3)


NO_ASSETS = Assets()


def _stretched(meshes: list[Mesh], rng: Rng, share: float) -> Mesh:
    mesh = meshes[rng.integers(len(meshes))]
    return mesh.transformed(np.diag(rng.uniform(1 - share, 1 + share) * rng.uniform(1 - share / 3, 1 + share / 3, 3)))


def fetch() -> None:
    """Download the catalogues with apt-get, take them apart, and prepare the meshes named above."""
    folder, arrays = catalogues(), {}
    for group, (sources, budget) in _GROUPS.items():
        for number, (catalogue, path, length) in enumerate(sources):
            mesh = _sized(read_obj(folder / f"{catalogue}.sh3f", path), length, budget)
            for part in ("vertices", "faces", "materials"):
                arrays[f"{group}/{number:02d}/{part}"] = getattr(mesh, part)
    np.savez_compressed(_PREPARED, **arrays)


def catalogues() -> Path:
    """The folder of the furniture catalogues, fetched where they are missing."""
    if not _CATALOGUES.is_dir():
        unpack("sweethome3d-furniture")
    return _CATALOGUES


def unpack(package: str) -> None:
    """Download a Debian package with apt-get and take it apart in FOLDER."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", package], cwd=FOLDER, check=True)
    (archive,) = FOLDER.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive.name, "."], cwd=FOLDER, check=True)
    archive.unlink()


def _sized(mesh: Mesh, length: float, budget: int) -> Mesh:
    """Scaled to its length, standing centred on z = 0, with fine detail merged until it keeps to the budget."""
    scaled = mesh.grounded().transformed(np.eye(3) * length / mesh.size[0])
    cells = 0.03 * 1.2 ** np.arange(20)
    return next(thin for cell in cells if len((thin := cluster(scaled, float(cell))).faces) <= budget).grounded()


def load() -> Assets:
    """The prepared meshes, or empty groups where `fetch` has not been run."""
    if not _PREPARED.is_file():
        return NO_ASSETS
    groups: dict[str, list[Mesh]] = {group: [] for group in _GROUPS}
    with np.load(_PREPARED) as stored:
        for name in sorted({key.rsplit("/", 1)[0] for key in stored.files}):
            mesh = Mesh(*(stored[f"{name}/{part}"] for part in ("vertices", "faces", "materials")))
            groups[name.split("/")[0]].append(mesh)
    return Assets(groups["vehicle"], groups["pedestrian"], groups["clutter"])


if __name__ == "__main__":
    fetch()
