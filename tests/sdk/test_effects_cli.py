"""panokit blur and panokit edit: files, messages and exit codes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from panokit.bundle import shipped_bundle_path
from panokit.cli import effects
from panokit.cli.edit_options import edit_from_options, options_of, options_of_any, takes
from panokit.cli.shell import app
from panokit.effects import EDIT_KINDS, BlurBackground, Edit, EditList, Lift, Pick, Remove
from panokit.effects.parameters import about
from panokit.errors import ArgumentError, DataError, UsageError

pytestmark = pytest.mark.skipif(
    not shipped_bundle_path().is_dir(), reason="the shipped bundle is not built"
)


def run(*arguments: str | Path) -> Result:
    """Run a command in this process; an error of ours is raised as it is."""
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    y, x = np.mgrid[0:60, 0:90]
    Image.fromarray(np.stack([x * 2, y * 3, x + y], -1).astype(np.uint8)).save(path)
    return path


def test_the_commands_are_there() -> None:
    assert effects.__all__ == ["blur", "edit"]


def test_blur_without_a_person_says_so_and_writes_the_photo(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    done = run("blur", photo, "--out", out, "--json", tmp_path / "r.json")
    assert done.exit_code == 0
    report = json.loads((tmp_path / "r.json").read_text())
    if not report["applied"]:
        assert "No person was found" in done.stdout
        np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(Image.open(photo)))


def test_edits_are_written_replayed_and_undone(photo: Path, tmp_path: Path) -> None:
    edits, out = tmp_path / "edits.json", tmp_path / "out.png"
    step = ("--tap", "45,30", "--do")
    run("edit", photo, *step, "highlight", "--out", out, "--edits", edits)
    run("edit", photo, *step, "recolor", "--color", "#20a040", "--out", out, "--edits", edits)
    assert [e.do for e in EditList.load(edits).edits] == ["highlight", "recolor"]
    twice = out.read_bytes()
    again = tmp_path / "again.png"
    assert run("edit", photo, "--edits", edits, "--out", again).exit_code == 0
    assert again.read_bytes() == twice
    run("edit", photo, "--undo", "--edits", edits, "--out", again, "--json", tmp_path / "r.json")
    assert [e.do for e in EditList.load(edits).edits] == ["highlight"]
    assert len(json.loads((tmp_path / "r.json").read_text())["edits"]["edits"]) == 1


def test_a_background_photo_is_named_relative_to_the_edits(photo: Path, tmp_path: Path) -> None:
    edits, out = tmp_path / "edits.json", tmp_path / "out.png"
    arguments = ("--tap", "45,30", "--do", "replace_background", "--background", photo)
    run("edit", photo, *arguments, "--out", out, "--edits", edits)
    assert json.loads(edits.read_text())["edits"][0]["fill"] == {"photo": "photo.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--out", "o.png"), "Give --do"),
        (("--out", "o.tif", "--do", "lift", "--tap", "1,1"), "a name ending in"),
        (("--out", "o.png", "--do", "lift", "--tap", "here"), "expected X,Y"),
        (("--out", "o.png", "--do", "lift"), "lacks its pick"),
        (("--out", "o.png", "--do", "melt", "--tap", "1,1"), "one of .*remove"),
        (
            ("--out", "o.png", "--do", "lift", "--tap", "1,1", "--blocks", "3"),
            "lift has the parameters",
        ),
        (("--out", "o.png", "--edits", "nowhere.json"), "there is no file"),
    ],
    ids=["nothing", "suffix", "tap", "pick", "kind", "parameter", "edits"],
)
def test_wrong_use_is_a_sentence(
    arguments: tuple[str, ...], message: str, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    with pytest.raises((ArgumentError, UsageError), match=message):
        run("edit", photo, *arguments)
    assert [p.name for p in photo.parent.iterdir()] == ["photo.png"]


def test_a_damaged_edits_file_is_refused_and_kept(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "edits.json").write_text('{"version": 9}')
    with pytest.raises(DataError, match="expected edits in JSON"):
        run("edit", photo, "--edits", tmp_path / "edits.json", "--out", tmp_path / "o.png")
    assert (tmp_path / "edits.json").read_text() == '{"version": 9}'


def test_the_list_is_only_written_when_the_picture_is(photo: Path, tmp_path: Path) -> None:
    edits = tmp_path / "edits.json"
    EditList((Remove(Pick(tap=(5, 5))),)).save(edits)
    before = edits.read_text()
    with pytest.raises(ArgumentError, match="lies outside the photo"):
        run("edit", photo, "--do", "lift", "--tap", "900,1", "--edits", edits,
            "--out", tmp_path / "o.png")  # fmt: skip
    assert edits.read_text() == before


# Options from the parameters of edits


def help_of(command: str) -> str:
    """The help in one line, without the frame."""
    done = CliRunner(env={"COLUMNS": "400", "NO_COLOR": "1"}).invoke(app, [command, "--help"])
    assert done.exit_code == 0
    return " ".join(done.stdout.replace("│", " ").split())


def test_every_parameter_is_an_option_of_edit() -> None:
    text = help_of("edit")
    assert ", ".join(EDIT_KINDS) in text
    for kind in EDIT_KINDS.values():
        for p in kind.parameters():
            if p.kind in ("pick", "fill"):
                names = ["tap", "class", "segment", "but"]
                names = names if p.kind == "pick" else ["color", "gradient", "background"]
                assert all(f"--{name} <" in text for name in names)
                continue
            name = p.name.replace("_", "-")
            both = f" --no-{name}" if p.default is True else ""
            words = text.partition(f"--{name}{both} <")[2]
            words = words[: words.find(" --")]
            assert kind.do in words
            assert p.limits in words
            if p.kind != "flag":
                assert str(p.default) in words


def test_blur_has_the_parameters_of_its_edit_with_limits_and_defaults() -> None:
    text = help_of("blur")
    assert "What stays sharp. Default: all persons" in text
    for option in ("tap", "class", "segment", "but", "strength", "blades", "highlights"):
        assert f"--{option} <" in text
    assert (
        "--strength <float range> [0<=x<=1] How strong the blur is (0..1). [default: 0.5]" in text
    )
    assert "--quality <str>" in text
    assert "(draft, good or best). [default: good]" in text


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("blur", ("--blades", "4"), "blades is .*; expected one of"),
        ("blur", ("--tap", "here"), "expected X,Y"),
        (
            "edit",
            ("--do", "blur_background", "--strength", "2"),
            "strength is .*; expected a number from 0 to 1",
        ),
        (
            "edit",
            ("--do", "remove", "--tap", "1,1", "--margin", "21"),
            "margin is .*; expected a number from 0 to 20",
        ),
        ("edit", ("--do", "replace_sky"), "exactly one of color, gradient and photo"),
        (
            "edit",
            ("--do", "replace_sky", "--tap", "1,1", "--color", "#000000"),
            "has the parameters",
        ),
    ],
)
def test_parameters_out_of_their_limits(
    command: str, arguments: tuple[str, ...], message: str, photo: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArgumentError, match=message):
        run(command, photo, "--out", tmp_path / "o.png", *arguments)
    assert run("blur", photo, "--out", tmp_path / "o.png", "--strength", "2").exit_code == 2
    assert not (tmp_path / "o.png").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"strength": 0.5, "blades": 0, "depth_ramp": False, "quality": "good"}),
        (
            ("--strength", "0.7", "--blades", "6", "--depth-ramp", "--highlights", "0.1"),
            {"strength": 0.7, "blades": 6, "depth_ramp": True, "highlights": 0.1},
        ),
        (("--tap", "3,4", "--quality", "best"), {"pick": Pick(tap=(3, 4)), "quality": "best"}),
        (("--segment", "3", "--no-with-held"), {"pick": Pick(segment=3, held=False)}),
        (("--no-with-held",), {"pick": Pick(class_name="person", held=False)}),
    ],
)
def test_blur_builds_the_edit(arguments: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert made_by(options_of(BlurBackground, "Blur"), "blur_background", *arguments) == (
        BlurBackground(**expected)
    )


def made_by(options: list[Any], do: str, *arguments: str) -> Edit:
    """The edit that a command with such options makes of arguments."""
    made: list[Edit] = []

    @takes(options)
    def command(**settings: Any) -> None:
        made.append(edit_from_options(do, settings, Path()))

    toy = typer.Typer()
    toy.command()(command)
    done = CliRunner().invoke(toy, list(arguments))
    assert done.exit_code == 0, done.output
    return made[0]


def test_a_colour_is_for_edits_that_have_one() -> None:
    options = options_of_any(EDIT_KINDS.values(), pick_panel="Which", panel="Settings")
    given = ("--segment", "2", "--color", "#102030")
    assert made_by(options, "lift", *given) == Lift(Pick(segment=2))
    recolor = {"do": "recolor", "pick": {"segment": 2}, "color": "#102030", "amount": 1.0}
    assert made_by(options, "recolor", *given).to_json() == recolor
    behind = made_by(options, "replace_background", *given).to_json()
    assert (behind["fill"], behind["pick"]) == ({"color": "#102030"}, {"segment": 2})


def test_a_new_edit_costs_one_dataclass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Edit, "_kinds", dict(Edit._kinds))

    @dataclass(frozen=True)
    class Fade(Edit):
        """Let the picked objects fade."""

        do = "fade"
        title = "Fade"

        pick: Pick = field(metadata=about("What fades."))
        steps: int = field(default=3, metadata=about("How many steps it takes.", low=1, high=9))
        softly: bool = field(default=True, metadata=about("Whether it fades softly."))

    monkeypatch.setitem(EDIT_KINDS, "fade", Fade)
    for options in (options_of(Fade, "Fade"), options_of_any([Fade], pick_panel="", panel="")):
        assert made_by(options, "fade", "--segment", "2") == Fade(Pick(segment=2))
        fade = made_by(options, "fade", "--segment", "2", "--steps", "9", "--no-softly")
        assert fade == Fade(Pick(segment=2), 9, False)
        assert Edit.from_json(fade.to_json()) == fade
    with pytest.raises(ArgumentError, match=r"steps is .*; expected a whole number from 1 to 9"):
        Fade(Pick(segment=2), 10)
