"""What commands say: lines, tables and progress, with texts from outside shown as they are.

No text is read as markup, none steers the terminal, and no name is ever cut: a table that is wider
than the terminal is shown as blocks, a line for each figure. Results go to standard output, what
is said about the work to standard error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.cells import cell_len
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from rich.text import Text

from panokit._text import shown

__all__ = ["Cell", "Grid", "HelpTable", "bars", "note", "say", "show", "tracked", "working"]

Item = TypeVar("Item")
Cell = object
"""A cell: any text or number, or a pair of it and a style."""

NATURAL_WIDTH = 10_000
"""A table that goes to a file or a pipe is as wide as it wants to be."""


class _Console(Console):
    """A console whose reader may go away: 1 would mean that the checked thing fails."""

    def on_broken_pipe(self) -> None:
        try:
            super().on_broken_pipe()
        except SystemExit:
            raise SystemExit(2) from None


@dataclass
class Grid:
    """A table: its title, the headings, and rows of as many cells.

    ``right`` are the headings whose figures stand at the right, ``wraps`` those whose texts may go
    on in a next line; all others stand on one line each.
    """

    headings: Sequence[str]
    rows: list[Sequence[Cell]] = field(default_factory=list)
    title: str = ""
    caption: str = ""
    right: Sequence[str] = ()
    wraps: Sequence[str] = ()

    def add(self, *cells: Cell) -> None:
        """Add a row."""
        self.rows.append(cells)


def say(text: object, *, label: str = "", style: str = "") -> None:
    """A line of results, to standard output, behind a ``label`` in a ``style``."""
    _line(_Console(), text, label, style)


def note(text: object, *, label: str = "", style: str = "") -> None:
    """A line about the work, to standard error."""
    _line(_Console(stderr=True), text, label, style)


def show(grid: Grid, *, error: bool = False) -> None:
    """A table, to standard output or (``error``) to standard error."""
    console = _Console(stderr=error)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = _Console(stderr=error, width=NATURAL_WIDTH)
    if grid.title:
        _line(console, grid.title, "", "italic")
    table, least = _table(grid)
    if least <= console.width:
        console.print(table)
    else:
        _blocks(console, grid)
    if grid.caption:
        _line(console, grid.caption, "", "dim")


def bars() -> Console:
    """The console of standard error for progress bars (their texts are markup: escape them). Where
    that is no terminal it is silent: bars would be empty lines there."""
    console = _Console(stderr=True)
    console.quiet = not console.is_terminal
    return console


def tracked(items: Iterable[Item], what: str, total: int | None = None) -> Iterable[Item]:
    """``items`` with a progress bar on standard error, where that is a terminal. With ``total``,
    their number, they are taken as they come."""
    items = list(items) if total is None else items
    return track(items, escape(shown(what)), total, console=bars(), transient=True)


@contextmanager
def working(what: str) -> Iterator[Callable[[str], None]]:
    """A line on the terminal that says what is being done; call what is yielded to change it."""
    with bars().status(escape(shown(what))) as status:
        yield lambda text: status.update(escape(shown(text)))


class HelpTable(Table):
    """A table of help: the names in it are never cut, and what explains them goes on in the next
    line. Typer's own tables end both with an ellipsis and have no setting for that."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """As the base class says."""
        super().add_row(*map(_in_one_piece, cells), **options)
        for column in self.columns:
            column.overflow, column.no_wrap = "fold", column is not self.columns[-1]


def _in_one_piece(cell: Any) -> Any:
    """Texts side by side as one text, which is wrapped as one."""
    if isinstance(cell, Columns) and all(isinstance(part, Text) for part in cell.renderables):
        return Text(" ").join(part for part in cell.renderables if isinstance(part, Text))
    return cell


def _line(console: Console, text: object, label: str, style: str) -> None:
    line = Text(shown(text), style="" if label else style)
    if label:
        line = Text.assemble((shown(label), style), " ", line)
    console.print(line, soft_wrap=True)


def _text(cell: Cell) -> Text:
    text, style = cell if isinstance(cell, tuple) else (cell, "")
    return Text(shown(text), style=str(style))


def _table(grid: Grid) -> tuple[Table, int]:
    """The table, and the least width at which no name in it is broken."""
    table = Table()
    least = 1
    for index, heading in enumerate(grid.headings):
        texts = [heading, *(shown(_text(row[index]).plain) for row in grid.rows)]
        parts = [w for t in texts for w in t.split()] if heading in grid.wraps else texts
        narrowest = max(map(cell_len, parts), default=1)
        table.add_column(
            Text(heading),
            justify="right" if heading in grid.right else "left",
            no_wrap=heading not in grid.wraps,
            min_width=narrowest,
            overflow="fold",
        )
        least += narrowest + 3  # a space on both sides and a line
    for row in grid.rows:
        table.add_row(*map(_text, row))
    return table, least


def _blocks(console: Console, grid: Grid) -> None:
    """A row as a block: its name, then a line for each figure."""
    widest = max(map(cell_len, grid.headings[1:]), default=0)
    for row in grid.rows:
        console.print(_text(row[0]), style="bold", soft_wrap=True)
        for heading, cell in zip(grid.headings[1:], row[1:], strict=True):
            space = " " * (widest - cell_len(heading))
            console.print(Text.assemble(f"  {heading}{space}  ", _text(cell)), soft_wrap=True)
