"""The documents name nothing that is not there."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from PIL import Image

from panokit.samples import sample_photos
from tests.toys.scripts import load_script

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
ROOMS = (
    "sdk|validation|network|compression|converters|lab|datasets|demo_app"
    "|tests|scripts|benchmarks|docs"
)
# Names with dots that are no module: entry-point groups, and a key in Core ML files.
OTHER_NAMES = {"panokit.commands", "panokit.segmenters", "panokit.topics", "panokit.labels"}
# Pages that the manual's build makes; it fails where a link to one leads nowhere.
MADE = {ROOT / "docs" / folder for folder in ("api", "faults", "lint")}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_paths_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [page.parent / m for m in re.findall(r"\]\((?!http|#|mailto)([^)#\s]+)", text)]
    paths = [ROOT / m for m in re.findall(rf"`((?:{ROOMS})/[\w/.\-]+)`", text)]
    found = [p.resolve() for p in (*links, *paths)]
    lost = [p for p in found if not p.exists() and p.parent not in MADE]
    assert [str(p.relative_to(ROOT)) for p in lost] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_modules_and_their_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = set(re.findall(r"`(panokit(?:_\w+)?(?:\.\w+)+)`", text)) - OTHER_NAMES
    assert sorted(n for n in names if not n.endswith(".json") and not _is_there(n)) == []


def _is_there(name: str) -> bool:
    """Whether a module has this name, or an attribute of one has."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_the_bank_of_faults_is_the_one_that_there_is() -> None:
    page = (ROOT / "docs" / "diagnosis.md").read_text(encoding="utf-8")
    assert load_script("make_bank_table").with_bank(page) == page


def test_every_command_has_its_help_in_the_docs() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    told = {line.split()[2] for line in text.splitlines() if line.startswith("## panokit ")}
    assert told == {entry.name for entry in entry_points(group="panokit.commands")}


def test_every_public_name_has_a_page_and_a_docstring() -> None:
    hooks = load_script("docs_hooks")
    listed = {
        f"{module}.{name}"
        for _, modules in hooks.PAGES.values()
        for module in modules
        for name in hooks.public_names(module)
    }
    public = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8").split()
    public.remove("panokit.__version__")
    assert [name for name in public if name not in listed] == []
    untold = []
    for name in sorted(listed):
        module, _, attribute = name.rpartition(".")
        found = getattr(import_module(module), attribute)
        if isinstance(found, type | FunctionType) and not (found.__doc__ or "").strip():
            untold.append(name)
    assert untold == []


ARRAYS = re.compile(r"NDArray|Tensor\b|RawHeads")
SHAPE = re.compile(r"\[[\w,:·×*+() .…/-]*\]")
NUMBERS = re.compile(r"\b(int|float)\b")


def test_every_array_of_the_api_has_its_shape_told() -> None:
    """A function or class that takes, gives or holds arrays says of what shape."""
    untold = []
    for name, found in _public_things():
        told = {name: (found, found.__doc__)}
        if not isinstance(found, FunctionType):
            told[name] = (found, f"{found.__doc__}{_beside_fields(found)}")
            told |= {
                f"{name}.{key}": (method, f"{method.__doc__}{found.__doc__}")
                for key, method in _methods(found)
            }
        untold += [
            key
            for key, (where, text) in told.items()
            if ARRAYS.search(_annotations(where)) and not SHAPE.search(text or "")
        ]
    assert untold == []


def test_every_number_of_the_api_is_told() -> None:
    """What a number counts, or its unit and range, stands in the docstring, beside the field, or in
    the sentence that forms and the command line show."""
    untold = []
    for name, found in _public_things():
        source = "" if isinstance(found, FunctionType) else inspect.getsource(found)
        for key, kind in _own_annotations(found).items():
            text = str(kind)
            if key in ("return", "axis") or key.startswith("_") or "ClassVar" in text:
                continue
            if not NUMBERS.search(text) or ARRAYS.search(text):
                continue
            told = re.search(rf"\b{key}\b", found.__doc__ or "")
            field = re.search(rf"^    {key}:.*?(?=^\s*$|^    \w+:|^    def )", source, re.M | re.S)
            beside = field and re.search(r"#|about\(|metadata=[A-Z]", field[0])
            if not (told or beside):
                untold.append(f"{name}.{key}")
    assert untold == []


def _public_things() -> list[tuple[str, Any]]:
    """Functions and classes of the API's pages, by their full names."""
    hooks = load_script("docs_hooks")
    names = {
        f"{module}.{name}": getattr(import_module(module), name)
        for _, modules in hooks.PAGES.values()
        for module in modules
        for name in hooks.public_names(module)
    }
    return [(n, f) for n, f in names.items() if isinstance(f, type | FunctionType)]


def _methods(kind: type) -> list[tuple[str, FunctionType]]:
    """Public methods and properties that a class defines itself."""
    found = []
    for name, member in vars(kind).items():
        inner = member.fget if isinstance(member, property) else member
        inner = inner.func if isinstance(inner, cached_property) else inner
        inner = getattr(inner, "__func__", inner)
        if not name.startswith("_") and isinstance(inner, FunctionType):
            found.append((name, inner))
    return found


def _own_annotations(thing: Any) -> dict[str, Any]:
    """Those of a function, or of a class itself."""
    held = thing if isinstance(thing, FunctionType) else vars(thing)
    found = held.get("__annotations__", {}) if isinstance(held, Mapping) else held.__annotations__
    return dict(found)


def _annotations(thing: Any) -> str:
    told = _own_annotations(thing).items()
    return " ".join(str(kind) for name, kind in told if not name.startswith("_"))


def _beside_fields(kind: type) -> str:
    """Comments, and texts below fields, of a class."""
    source = inspect.getsource(kind)
    return " ".join([*re.findall(r"#(.*)", source), *re.findall(r'"""(.*?)"""', source, re.DOTALL)])


def test_an_array_and_a_number_that_are_not_told_are_found() -> None:
    def bare(image: NDArray[np.uint8], limit: int) -> NDArray[np.float32]:
        """Something."""
        return image * np.float32(limit)

    assert ARRAYS.search(_annotations(bare))
    assert NUMBERS.search(str(_own_annotations(bare)["limit"]))
    assert not SHAPE.search(bare.__doc__ or "")


def test_the_topics_of_the_manual_are_the_programs() -> None:
    made = load_script("make_topics").topics_text()
    assert (ROOT / "docs" / "topics.json").read_text(encoding="utf-8") == made, (
        "run scripts/make_topics.py"
    )
    told = json.loads(made)
    pages = load_script("docs_hooks").topic_pages()
    for topic in told:
        if topic["kind"] in ("fault", "lint rule"):
            assert topic["page"].replace(".html", ".md") in pages, topic["name"]
    pictures = {p.stem for p in (ROOT / "docs" / "images" / "faults").iterdir()}
    assert pictures == {t["name"] for t in told if t["kind"] == "fault"}


def test_the_glossary_is_the_one_of_the_program() -> None:
    own = ROOT / "sdk" / "panokit" / "assets" / "glossary.md"
    page = ROOT / "docs" / "glossary.md"
    assert own.read_text(encoding="utf-8") == page.read_text(encoding="utf-8"), (
        f"copy {own} to {page}"
    )


def test_every_word_has_its_address_in_the_glossary() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    made = load_script("docs_hooks").with_anchors(text)
    words = [t for t in json.loads((ROOT / "docs" / "topics.json").read_text("utf-8"))
             if t["kind"] == "word"]  # fmt: skip
    assert len(words) > 30
    for word in words:
        anchor = word["page"].partition("#")[2]
        assert f'<a id="{anchor}"></a>**{word["name"]}**' in made


def test_every_command_option_has_a_sentence() -> None:
    for entry in entry_points(group="panokit.commands"):
        command = typer.main.get_command(_app_of(entry.load()))
        for one in _leaves(command):
            for option in one.params:
                if isinstance(option, typer.core.TyperOption):
                    assert (option.help or "").strip(), f"{entry.name}: {option.name}"


def _app_of(command: object) -> typer.Typer:
    if isinstance(command, typer.Typer):
        return command
    made = typer.Typer()
    made.command()(command)  # type: ignore[type-var]
    return made


def _leaves(command: Any) -> list[Any]:
    children = getattr(command, "commands", None)
    if not children:
        return [command]
    return [leaf for child in children.values() for leaf in _leaves(child)]


def test_the_examples_of_file_formats_are_read(tmp_path: Path) -> None:
    from panokit.bundle import Bundle
    from panokit.effects import EditList
    from panokit.taxonomy import Taxonomy
    from panokit_compression.recipes import load_recipe

    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    found = dict(re.findall(r"<!-- format: (\w+) -->\n```json\n(.*?)```", page, re.S))
    assert found.keys() == {"taxonomy", "recipe", "edits", "manifest"}
    for name, text in found.items():
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    assert [c.name for c in Taxonomy.load(tmp_path / "taxonomy.json")] == ["person", "dog", "lawn"]
    assert len(load_recipe(str(tmp_path / "recipe.json")).steps) == 3
    assert len(EditList.load(tmp_path / "edits.json").edits) == 3
    shipped = Bundle.open().manifest
    told = json.loads(found["manifest"])
    assert told["preprocessing"].items() <= shipped.preprocessing.to_json().items()
    assert told["postprocessing"] == shipped.postprocessing.to_json()
    assert told["stride"] == shipped.stride


FENCE = re.compile(r"^```\w*\n(.*?)^```", re.S | re.M)


def _lines_of_commands(text: str) -> list[str]:
    """The lines in fences and in `code` that call the program."""
    blocks = [block.replace("\\\n", " ") for block in FENCE.findall(text)]
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [line for line in lines if line.startswith("panokit ")]


def _wrong_commands(text: str) -> list[str]:
    """Commands and options in a text that the program does not have."""
    entries = {e.name: e for e in entry_points(group="panokit.commands")}
    wrong = []
    for line in _lines_of_commands(text):
        words = line.partition("#")[0].split()[1:]
        if not words or words[0] not in entries:
            if words and re.fullmatch(r"[a-z][a-z-]+", words[0]):
                wrong.append(line)
            continue
        command: Any = typer.main.get_command(_app_of(entries[words[0]].load()))
        rest = words[1:]
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]
        children = getattr(command, "commands", {})
        if children and rest and re.fullmatch(r"[a-z]+", rest[0]):
            wrong.append(line)
            continue
        known = {
            option
            for leaf in _leaves(command)
            for parameter in leaf.params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {w.partition("=")[0].strip("[]`,;.)") for w in rest if w.startswith("--")}
        wrong += [f"{line}: {w}" for w in used - known - {"--help", "--debug", "--"}]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_on_a_page_have_the_options_that_are_written(page: Path) -> None:
    assert _wrong_commands(page.read_text(encoding="utf-8")) == []


def test_an_option_that_is_not_there_is_found() -> None:
    fenced = (
        "```\n$ panokit explode\npanokit dataset chekc D\npanokit dataset check D \\\n  --no\n```\n"
    )
    text = f"`panokit segment p.jpg --nope`\n\n{fenced}"
    assert _wrong_commands(text) == [
        "panokit explode",
        "panokit dataset chekc D",
        "panokit dataset check D    --no: --no",
        "panokit segment p.jpg --nope: --nope",
    ]


def test_the_code_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("supervision")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    Image.open(sample_photos()["astronaut"]).convert("RGB").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "overlay.png").is_file()
