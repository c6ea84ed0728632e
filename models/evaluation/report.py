# SPDX-License-Identifier: Apache-2.0
"""metrics.json for machines, and report.html for people: one file, pictures and curves inside."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from perception_models.geometry.boxes import Floats

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; max-width: 1000px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse }
td, th { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #d8dde6 }
td:first-child, th:first-child { text-align: left } th { color: #5a6578; font-weight: 600 }
figure { display: inline-block; margin: .4rem .4rem 1rem 0; vertical-align: top; max-width: 100% }
figcaption { color: #5a6578; font-size: .9rem } img { max-width: 100%; border-radius: 6px } p { max-width: 46rem }
"""
PLOT_WIDTH, PLOT_HEIGHT = 300, 220


@dataclass(frozen=True)
class Table:
    """A table: the first column names the rows."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Plot:
    """Lines by name, each x (P,) and y (P,) between 0 and 1."""

    title: str
    lines: Mapping[str, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Report:
    """What report.html shows, from top to bottom. `facts` are lines `name: value`; `pictures` are (caption, PNG)."""

    title: str
    facts: Mapping[str, str]
    tables: Sequence[Table]
    plots: Sequence[Plot] = ()
    pictures: Sequence[tuple[str, bytes]] = ()
    notes: Sequence[str] = ()
    plots_title: str = "Precision over recall"


def as_cell(value: float | None) -> str:
    """A figure as a cell: two digits after the point at most, a dash for none."""
    return "-" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def latency_table(figures: Mapping[str, float]) -> Table:
    """Percentiles by stage, from the flat figures of `LatencyLog.summary`."""
    columns = ("p50", "p95", "p99", "max")
    stages = list(dict.fromkeys(name.split("_")[1] for name in figures if name.startswith("latency_")))
    rows = [[stage, *(as_cell(figures.get(f"latency_{stage}_{one}_ms")) for one in columns)] for stage in stages]
    return Table("Latency, ms", ["", *columns], rows)


def write_metrics(folder: Path, metrics: Mapping[str, Mapping[str, float | str]]) -> Path:
    """Write metrics.json, figures by task and name, floats rounded to four digits after the point."""
    rounded = {
        task: {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
        for task, figures in metrics.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "metrics.json"
    path.write_text(json.dumps(rounded, indent=2) + "\n")
    return path


def write_report(folder: Path, reports: Sequence[Report]) -> Path:
    """Write report.html, one report below the other; it needs no other file."""
    title = reports[0].title
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "".join(_section(report) for report in reports)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(f"<!doctype html><html lang='en'><head>{head}</head><body>{body}</body></html>\n")
    return path


def _section(report: Report) -> str:
    facts = Table("", (), [(name, value) for name, value in report.facts.items()])
    parts = [f"<h1>{escape(report.title)}</h1>", _table(facts)]
    parts += [f"<h2>{escape(table.title)}</h2>{_table(table)}" for table in report.tables]
    parts += [f"<p>{escape(note)}</p>" for note in report.notes]
    if report.plots:
        parts += [f"<h2>{escape(report.plots_title)}</h2>", *(_plot(plot) for plot in report.plots)]
    if report.pictures:
        parts += ["<h2>Pictures</h2>", *(_picture(caption, png) for caption, png in report.pictures)]
    return "".join(parts)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.header)
    rows = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in table.rows)
    return f"<table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def _picture(caption: str, png: bytes) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<figure><img src="{source}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def _plot(plot: Plot) -> str:
    lines = zip(plot.lines.items(), COLOURS, strict=False)
    drawn = "".join(_line(name, x, y, colour, row) for row, ((name, (x, y)), colour) in enumerate(lines))
    grid = "".join(
        f'<path d="M{share * PLOT_WIDTH} 0V{PLOT_HEIGHT}M0 {share * PLOT_HEIGHT}H{PLOT_WIDTH}" stroke="#d8dde6"/>'
        f'<text x="{share * PLOT_WIDTH}" y="{PLOT_HEIGHT + 14}" text-anchor="middle">{share:g}</text>'
        f'<text x="-6" y="{(1 - share) * PLOT_HEIGHT + 4}" text-anchor="end">{share:g}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    box = f"-34 -8 {PLOT_WIDTH + 46} {PLOT_HEIGHT + 30}"
    picture = f'<svg viewBox="{box}" width="{PLOT_WIDTH + 46}" font-size="10" fill="#5a6578">{grid}{drawn}</svg>'
    return f"<figure>{picture}<figcaption>{escape(plot.title)}</figcaption></figure>"


def _line(name: str, x: Floats, y: Floats, colour: str, row: int) -> str:
    points = " ".join(f"{a * PLOT_WIDTH:.1f},{(1 - b) * PLOT_HEIGHT:.1f}" for a, b in zip(x, y, strict=True))
    place = PLOT_HEIGHT - 52 + 13 * row
    return (
        f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.6"/>'
        f'<text x="8" y="{place}" fill="{colour}">{escape(name)}</text>'
    )
