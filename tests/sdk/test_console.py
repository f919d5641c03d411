"""What commands say on consoles of any width and encoding, of names from anywhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest

from panokit._text import CONSOLE_ERRORS, encodable, shown
from panokit.cli.console import Grid, note, say, show, tracked, working
from tests.toys.scripts import load_script

structure = load_script("structure")

NAMES = {
    "markup": "[bold]car[/bold] [link=x]y[/link] [1].png",
    "closing": "a[/].png",
    "backslash": "a\\[red]b",
    "emoji code": ":smile: 12:30",
    "right to left": "\u200f\u0635\u0648\u0631\u0629.jpg",
    "family": "\U0001f468\u200d\U0001f469\u200d\U0001f467.jpg",
    "young emoji": "\U0001fae8\U0001faea \U0001f3f4\U000e0067\U000e007f.jpg",
    "a screenshot": "at 3.04.05\u202fPM \u3000.png",
    "long": "x" * 300,
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_names_are_said_as_they_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(name, label=name, style="red")
    note(name)
    with working(name) as update:
        update(name)
    list(tracked([1], name))
    said = capsys.readouterr()
    assert said.out == f"{name} {name}\n"
    assert said.err.rstrip("\n") == name


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("\x07bell\x08", "\ufffdbell\ufffd"),
        ("c1\x9b31m", "c1\ufffd31m"),
        ("over\u202eride \u2066isolate", "over\ufffdride \ufffdisolate"),
        ("two\nlines\r\n  more\n", "two lines more"),
        ("tab\tbed", "tab bed"),
        ("caf\udce9 \ud800", "caf\\xe9 \\ud800"),
        ("\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u200c\u062e"),
    ],
)
def test_nothing_steers_the_terminal(
    text: str, wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(text) == wanted
    say(text)
    show(Grid(("name",), rows=[(text,)], title=text))
    out = capsys.readouterr().out
    assert out.splitlines()[0] == wanted
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out)


def test_a_long_text_ends_somewhere() -> None:
    assert shown("x" * 5000) == "x" * 4000 + "…"
    assert encodable("\udcff") == "\\xff"


LONG = "tflite-int8-mixed-of-many-layers-at-640x480"
TABLE = Grid(
    ("artifact", "MB", "photos", "why"),
    rows=[(LONG, "12.34", "3 of my_val", "heads equal, 100.00% of the pixels agree here")],
    title=f"{LONG} → out [new]",
    caption="what the columns mean, in a rather long sentence that no table is wide enough for",
    right=("MB",),
    wraps=("photos", "why"),
)


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 100, 140])
def test_no_name_is_cut_however_narrow(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    show(TABLE)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "…" not in out
    assert sum(LONG in line for line in lines) == 2
    assert f"{LONG} → out [new]" in lines
    for word in ("12.34", "my_val", "100.00%", "agree"):
        assert word in out
    if columns >= 80:  # a table that fits: no wider than the console
        drawn = [line for line in lines if line[:1] in "┏┃┡│└"]
        assert len(drawn) > 4
        assert max(map(len, drawn)) <= columns
    else:
        assert "  MB      12.34" in lines


def test_a_file_gets_the_table_at_its_own_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    show(TABLE)
    assert "heads equal, 100.00% of the pixels agree here" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "latin-1", "utf-8"])
def test_a_console_of_any_encoding_gets_what_it_can_show(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding, CONSOLE_ERRORS)
    monkeypatch.setattr(sys, "stdout", stream)
    say("a → b × c … – \u6f22 caf\udce9 \U0001f600")
    show(Grid(("photo",), rows=[("naïve \u6f22.png",)]))
    stream.flush()
    said = raw.getvalue().decode(encoding)
    if encoding == "ascii":
        assert said.splitlines()[0] == "a -> b x c ... - \\u6f22 caf\\xe9 \\U0001f600"
        assert "na\\xefve \\u6f22.png" in said
    assert "caf\\xe9" in said
    assert "?" not in said


def test_nobody_else_writes_to_the_terminal(root: Path) -> None:
    """Other ways read names as markup, cut them, and hand on what steers the terminal."""
    other = re.compile(r"typer\.echo|\bConsole\(|rich\.table|rich\.console|^\s*print\(", re.M)
    users = [
        str(path.relative_to(root))
        for path in structure.python_files(root).values()
        if other.search(path.read_text("utf-8"))
    ]
    assert users == ["sdk/panokit/cli/console.py"]


def test_progress_says_nothing_where_there_is_no_terminal() -> None:
    code = "from panokit.cli.console import tracked; print(sum(tracked([1, 2], 'adding')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("3\n", "")
