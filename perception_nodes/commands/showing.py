# SPDX-License-Identifier: Apache-2.0
"""A report on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_models.evaluation.report import Report


def show(report: Report) -> None:
    """Print the facts, and each table in columns."""
    print(f"\n{report.title}")
    for name, value in report.facts.items():
        print(f"  {name}: {value}")
    for table in report.tables:
        rows = [[table.title, *table.header[1:]], *table.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        print()
        for first, *others in rows:
            cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
            print("  " + "  ".join([first.ljust(widths[0]), *cells]))
