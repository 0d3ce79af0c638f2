"""Draws the floors, their rooms, and the imports between them, as SVG on standard output.

    python docs/structure.py > docs/structure.svg

A room is a folder of a floor. The files beside the rooms are drawn together, those of one level in
one box. A box stands above all that it imports; an arrow that others already imply is left out.
`tests/docs/test_structure.py` compares the committed picture with what this draws.
"""

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path

FLOORS: Mapping[str, str] = {
    "api": "how it is asked",
    "projections": "what is known",
    "domain": "what may happen",
}
"""From the top; each may import the floors below it."""

WIDTH, MARGIN, PADDING, GAP = 1080, 20, 16, 26
LINE, TITLE, BETWEEN_ROWS = 17, 34, 44
CHARACTER, NAMES_A_LINE = 7.3, 3

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Box:
    """A room (`files` is empty), or files of one level, and where it is drawn."""

    name: str
    files: tuple[str, ...]
    x: float = 0
    y: float = 0

    @property
    def lines(self) -> list[str]:
        """What is written in it."""
        if not self.files:
            return [self.name.split(".")[1] + "/"]
        names = [name.split(".")[1] for name in self.files]
        parts = [names[at : at + NAMES_A_LINE] for at in range(0, len(names), NAMES_A_LINE)]
        return [" · ".join(part) for part in parts]

    @property
    def width(self) -> float:
        """In pixels."""
        return max(map(len, self.lines)) * CHARACTER + 2 * PADDING

    @property
    def height(self) -> float:
        """In pixels."""
        return len(self.lines) * LINE + 14


def imports(root: Path) -> Graph:
    """Which room or file of a floor imports which: names of two parts, such as `api.doors`."""
    graph: Graph = {}
    for floor in FLOORS:
        for path in sorted((root / floor).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if len(parts) == 2 and parts[1] == "__init__":
                continue
            place = ".".join(parts[:2])
            imported = {".".join(name.split(".")[:2]) for name in _imported(path)}
            graph.setdefault(place, set()).update(imported - {place})
    return {place: {name for name in names if name in graph} for place, names in graph.items()}


def _imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, as far as it may be one of ours."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in FLOORS:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def reachable(graph: Graph) -> Graph:
    """What each name leads to, by one import or many."""
    reached = {name: set(names) for name, names in graph.items()}
    for middle in graph:
        for found in reached.values():
            if middle in found:
                found.update(reached[middle])
    return reached


def levels(graph: Graph) -> dict[str, int]:
    """How high each name stands in its floor: above all that it imports; a circle on one level."""
    reached = reachable(graph)
    found: dict[str, int] = {}
    # Whatever reaches less stands lower, so that what a name needs is always found before it.
    for name in sorted(graph, key=lambda name: (len(reached[name] - {name}), name)):
        below = [
            found[other]
            for other in reached[name] - {name}
            if _floor(other) == _floor(name) and name not in reached[other]
        ]
        found[name] = max(below, default=-1) + 1
    return found


def boxes(root: Path, graph: Graph) -> tuple[dict[str, list[list[Box]]], Graph]:
    """The rows of each floor from the top, and which box imports which."""
    level = levels(graph)
    rows: dict[str, list[list[Box]]] = {}
    box_of: dict[str, str] = {}
    for floor in FLOORS:
        names = [name for name in sorted(graph) if _floor(name) == floor]
        rows[floor] = []
        for height in sorted({level[name] for name in names}, reverse=True):
            here = [name for name in names if level[name] == height]
            rooms = [name for name in here if (root / name.replace(".", "/")).is_dir()]
            files = tuple(name for name in here if name not in rooms)
            row = [Box(name, ()) for name in rooms]
            row += [Box(f"{floor} {height}", files)] if files else []
            rows[floor].append(row)
            box_of |= {name: name for name in rooms} | dict.fromkeys(files, f"{floor} {height}")
    between: Graph = {box: set() for box in box_of.values()}
    for name, imported in graph.items():
        between[box_of[name]] |= {box_of[other] for other in imported} - {box_of[name]}
    return rows, between


def reduced(graph: Graph) -> list[tuple[str, str]]:
    """The arrows that no other two imply."""
    reached = reachable(graph)
    return [
        (above, below)
        for above, names in sorted(graph.items())
        for below in sorted(names)
        if not any(
            below in reached[middle] and above not in reached[middle]
            for middle in names - {below}
            if middle not in reached[below]
        )
    ]


def placed(rows: Mapping[str, list[list[Box]]]) -> tuple[dict[str, Box], list[str], float]:
    """Each box in its place, the frames of the floors, and the height of it all."""
    found: dict[str, Box] = {}
    frames = []
    y: float = MARGIN
    for floor, floor_rows in rows.items():
        top, y = y, y + TITLE
        for row in floor_rows:
            free = WIDTH - sum(box.width for box in row)
            gap = max(GAP, free / (len(row) + 1))
            x = (free - gap * (len(row) - 1)) / 2
            for box in row:
                found[box.name] = Box(box.name, box.files, x, y)
                x += box.width + gap
            y += max(box.height for box in row) + BETWEEN_ROWS
        y += PADDING - BETWEEN_ROWS
        frames.append(
            f'<rect class="floor" x="{MARGIN / 2}" y="{top}" width="{WIDTH - MARGIN}" '
            f'height="{y - top:.0f}" rx="10"/>'
            f'<text class="title" x="{MARGIN + 4}" y="{top + 23}">{floor}/'
            f'<tspan class="says"> {FLOORS[floor]}</tspan></text>'
        )
        y += BETWEEN_ROWS
    return found, frames, y - BETWEEN_ROWS + MARGIN


def arrows(found: Mapping[str, Box], pairs: list[tuple[str, str]]) -> Iterator[str]:
    """A line for each pair, from the foot of the one to the head of the other, side by side."""
    for above, below in pairs:
        start, end = found[above], found[below]
        targets = [found[two] for one, two in pairs if one == above]
        sources = [found[one] for one, two in pairs if two == below]
        if end.y <= start.y:  # of a circle
            yield _circle(start, end)
            continue
        x1, y1 = _port(start, end, targets), start.y + start.height
        x2, y2 = _port(end, start, sources), end.y - 5
        bend = max(18, (y2 - y1) / 2)
        kind = "within" if _floor(above) == _floor(below) else "across"
        yield (
            f'<path class="{kind}" marker-end="url(#{kind})" d="M{x1:.1f} {y1:.1f} '
            f'C{x1:.1f} {y1 + bend:.1f} {x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"/>'
        )


def _circle(start: Box, end: Box) -> str:
    """A line between two boxes of one row that import each other: it should not be there."""
    left, right = sorted((start, end), key=lambda box: box.x)
    y = start.y + start.height / 2
    return f'<path class="circle" d="M{left.x + left.width:.1f} {y:.1f} H{right.x:.1f}"/>'


def _port(box: Box, other: Box, others: list[Box]) -> float:
    """Where on a box's edge the line to one of the others begins: in their order from the left."""
    order = sorted(others, key=lambda each: (each.x + each.width / 2, each.y))
    return box.x + box.width * (order.index(other) + 1) / (len(order) + 1)


def _floor(name: str) -> str:
    return name.replace(" ", ".").split(".")[0]


def drawn(box: Box) -> str:
    """A box with what is written in it."""
    kind = "files" if box.files else "room"
    middle = box.x + box.width / 2
    words = "".join(
        f'<text class="{kind}-name" x="{middle:.1f}" y="{box.y + 19 + at * LINE:.1f}">'
        f"{escape(line)}</text>"
        for at, line in enumerate(box.lines)
    )
    return (
        f'<rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="5"/>{words}'
    )


STYLE = """
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1f2933; text-anchor: middle }
.title { font-weight: bold; font-size: 15px; text-anchor: start }
.says { font-weight: normal; fill: #52606d }
.room-name { font-weight: bold }
.files-name { font-size: 12px; fill: #3e4c59 }
.floor { fill: #f5f7fa; stroke: #cbd2d9 }
.room { fill: #d9e8f6; stroke: #3d6f9e }
.files { fill: #ffffff; stroke: #9aa5b1 }
path { fill: none }
.within { stroke: #3d6f9e; stroke-width: 1.3 }
.circle { stroke: #c0392b; stroke-width: 1.5; stroke-dasharray: 5 4 }
.across { stroke: #b0793b; stroke-width: 1; stroke-opacity: 0.75 }
"""
HEAD = (
    '<marker id="{0}" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="6" markerHeight="6" '
    'orient="auto"><path d="M0 0 L8 4 L0 8 z" style="fill: {1}"/></marker>'
)


def draw(root: Path) -> str:
    """The picture of the packages below a directory: the same bytes for the same imports."""
    rows, between = boxes(root, imports(root))
    found, frames, height = placed(rows)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">',
        "<title>Floors, rooms and the imports between them</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{HEAD.format('within', '#3d6f9e')}{HEAD.format('across', '#b0793b')}</defs>",
        f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
        *frames,
        *arrows(found, reduced(between)),
        *map(drawn, found.values()),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(draw(Path(__file__).resolve().parent.parent))
