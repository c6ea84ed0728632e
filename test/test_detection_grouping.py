# SPDX-License-Identifier: Apache-2.0
"""Flattened windows against a slow reference that follows the paper's words."""

import numpy as np
import pytest

from perception_models.detection.grouping import SORTINGS, flatten_windows, snake_key

WINDOW = 12


def slow_order(coordinates: np.ndarray, window: int, sweep_x: bool) -> list[int]:
    """Walk over windows row by row in snake order and, inside each, over its cells in snake order."""
    rows = [(int(y), int(x), k) if sweep_x else (int(x), int(y), k) for k, (x, y) in enumerate(coordinates)]
    order: list[int] = []
    for band in range(max(r[0] for r in rows) // window + 1):
        in_band = [r for r in rows if r[0] // window == band]
        columns = sorted({r[1] // window for r in in_band}, reverse=band % 2 == 1)
        for column in columns:
            cells = [(minor % window, major % window, k) for major, minor, k in in_band if minor // window == column]
            snake = sorted(cells, key=lambda c: (c[0], c[1] if c[0] % 2 == 0 else -c[1]))
            order += [c[2] for c in (snake if band % 2 == 0 else snake[::-1])]
    return order


@pytest.mark.parametrize("tokens", [1, 5, 63, 64, 700])
def test_orders_equal_a_slow_walk_over_windows(tokens: int) -> None:
    rng = np.random.default_rng(tokens)
    cells = rng.choice(100 * 100, tokens, replace=False)
    coordinates = np.stack([cells % 100, cells // 100], axis=1)
    groups = flatten_windows(coordinates, WINDOW, 768)
    for s, name in enumerate(SORTINGS):
        moved = coordinates + (WINDOW // 2 if name.endswith("shift") else 0)
        assert groups.orders[s, :tokens].tolist() == slow_order(moved, WINDOW, name.startswith("x"))


def test_inverse_undoes_each_order_and_padding_stays_at_the_end() -> None:
    coordinates = np.random.default_rng(0).permutation(40)[:30, None] * np.array([[1, 2]])
    groups = flatten_windows(coordinates, WINDOW, 64)
    places = np.arange(64)
    for s in range(len(SORTINGS)):
        assert (groups.orders[s][groups.inverse[s]] == places).all()
        assert (groups.orders[s, 30:] == places[30:]).all()


def test_positions_are_the_in_window_coordinates_of_the_sorted_tokens() -> None:
    coordinates = np.array([[13, 25], [0, 0], [11, 11]])
    groups = flatten_windows(coordinates, WINDOW, 3)
    shifted = (coordinates + 6) % WINDOW
    expected = (shifted[:, 1] * WINDOW + shifted[:, 0])[groups.orders[3]]
    assert groups.positions[3].tolist() == expected.tolist()


def test_neighbours_in_order_are_neighbours_in_space() -> None:
    """What the snake is for: on a full grid each step of the order moves by one cell within a window."""
    x, y = np.meshgrid(np.arange(24), np.arange(24))
    coordinates = np.stack([x.ravel(), y.ravel()], axis=1)
    ordered = coordinates[np.argsort(snake_key(coordinates, WINDOW, True))]
    steps = np.abs(np.diff(ordered, axis=0)).sum(axis=1)
    same_window = (ordered[1:] // WINDOW == ordered[:-1] // WINDOW).all(axis=1)
    assert (steps[same_window] == 1).all()
