"""What MkDocs asks for while it builds the manual: the pages of the Python API, from the names that
each package makes public, and the footer."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "PAGES", "page_text", "public_names", "topic_pages", "with_anchors"]

ROOT = Path(__file__).resolve().parent.parent
PAGES: dict[str, tuple[str, tuple[str, ...]]] = {
    "panokit": ("The SDK", ("panokit",)),
    "effects": ("Effects and edits", ("panokit.effects",)),
    "video": ("Videos and tracks", ("panokit.video", "panokit.tracking")),
    "decoding": ("Decoding heads", ("panokit.decoding",)),
    "photo": ("Photos", ("panokit.photo", "panokit.samples", "panokit.tiles")),
    "errors": ("Errors", ("panokit.errors",)),
    "validation": ("Validation", ("panokit_validation", "panokit_validation.diagnosis")),
    "datasets": ("Data sets", ("panokit_datasets", "panokit_datasets.quality")),
    "compression": ("Compression", ("panokit_compression", "panokit_compression.recipes")),
    "converters": ("Converters", ("panokit_converters",)),
    "network": ("Networks and training", ("panokit_network",)),
    "lab": ("Workflows", ("panokit_lab",)),
    "demo": ("The demo server", ("panokit_demo",)),
}
"""Page → its title and the modules whose public names it lists."""

KINDS = {"fault": ("faults", "Faults"), "lint rule": ("lint", "Lint rules")}
"""Kinds of topics that have a page each: its folder, and the title of the list."""

FOREIGN_SHIM, SHIM = "https://unpkg.com/iframe-worker/shim", "javascripts/worker_in_frame.js"

_OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?!tutorials|recipes|images)[\w./-]+\.(?!md\b)\w+)\)"
)


def public_names(module: str) -> list[str]:
    """What a module's ``__all__`` lists, read without running it."""
    relative = module.replace(".", "/")
    for room in sorted(p for p in ROOT.iterdir() if p.is_dir()):
        for path in (room / f"{relative}.py", room / relative / "__init__.py"):
            if path.is_file():
                return _all_of(path)
    raise FileNotFoundError(module)


def _all_of(path: Path) -> list[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(t, ast.Name) and t.id == "__all__" for t in targets):
            assert isinstance(node, ast.Assign)
            names = ast.literal_eval(node.value)
            return [str(n) for n in names if not n.startswith("__")]
    return []


def page_text(title: str, modules: tuple[str, ...]) -> str:
    """A page of the API: each public name of some modules."""
    parts = [f"# {title}\n"]
    for module in modules:
        names = public_names(module)
        parts.append(f"\n`import {module}`\n" if names else "")
        parts += [f"\n::: {module}.{name}\n" for name in names]
    return "\n".join(parts)


def on_config(config: Any) -> Any:
    """Version and date for the footer, and the list of the API's pages."""
    told = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    config.copyright = f"Panokit {told['project']['version']} · {_day()}"
    for entry in config.nav or []:
        if isinstance(entry, dict) and "Python" in entry:
            entry["Python"] = [{t: f"api/{n}.md"} for n, (t, _) in PAGES.items()]
    return config


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Links out of the manual, to files of the checkout, become their paths; each word of the
    glossary gets the address that `panokit explain` names."""
    if page.file.src_uri == "glossary.md":
        markdown = with_anchors(markdown)
    return _OUTSIDE.sub(r"\1 (`\2`)", markdown)


def with_anchors(glossary: str) -> str:
    """The glossary with an address before each word."""
    words = {t["name"]: t["page"].partition("#")[2] for t in _topics() if t["kind"] == "word"}
    for name, anchor in words.items():
        glossary = glossary.replace(f"**{name}**", f'<a id="{anchor}"></a>**{name}**', 1)
    return glossary


def on_post_build(config: Any) -> None:
    """The build fails if an address that the program prints leads nowhere."""
    from mkdocs.exceptions import PluginError

    site = Path(config.site_dir)
    pages: dict[str, str] = {}
    lost = []
    for topic in _topics():
        name, _, anchor = topic["page"].partition("#")
        file = site / name
        if name not in pages:
            pages[name] = file.read_text(encoding="utf-8") if file.is_file() else ""
        if not pages[name] or (anchor and f'id="{anchor}"' not in pages[name]):
            lost.append(topic["page"])
    if lost:
        raise PluginError(f"`panokit explain` names pages that are not there: {lost}")


def on_post_page(output: str, *, page: Any, **_: Any) -> str:
    """No page asks another server: the shim for search in files is our own."""
    return output.replace(FOREIGN_SHIM, "../" * page.url.count("/") + SHIM)


def on_post_template(output: str, **_: Any) -> str:
    """The same for the page of what is not there."""
    return output.replace(FOREIGN_SHIM, f"/{SHIM}")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the API."""
    from mkdocs.structure.files import File

    made = {f"api/{n}.md": page_text(title, modules) for n, (title, modules) in PAGES.items()}
    threats = (ROOT / "SECURITY.md").read_text(encoding="utf-8").replace("](docs/", "](")
    made["threats.md"] = threats.replace("# Security\n", "# What is trusted\n", 1)
    for place, content in (made | topic_pages()).items():
        files.append(File.generated(config, place, content=content))
    return files


def topic_pages() -> dict[str, str]:
    """The pages of faults and of lint rules, by their places: one each, and a list of each kind."""
    told = _topics()
    pages = {}
    for kind, (folder, title) in KINDS.items():
        own = [t for t in told if t["kind"] == kind]
        lines = [f"# {title}", "", "| | |", "|---|---|"]
        for topic in own:
            first = topic["text"].partition("\n")[0]
            lines.append(f"| [{topic['name']}]({topic['name']}.md) | {first} |")
            pages[f"{folder}/{topic['name']}.md"] = _topic_page(topic, folder)
        pages[f"{folder}/index.md"] = "\n".join(lines) + "\n"
    return pages


def _topics() -> list[dict[str, str]]:
    told: list[dict[str, str]] = json.loads(
        (ROOT / "docs" / "topics.json").read_text(encoding="utf-8")
    )
    return told


def _topic_page(topic: dict[str, str], folder: str) -> str:
    parts = [f"# {topic['name']}", topic["text"]]
    if (ROOT / "docs" / "images" / folder / f"{topic['name']}.webp").is_file():
        where = f"../images/{folder}/{topic['name']}.webp"
        parts.append(f"![On the left as it should be, on the right with the fault]({where})")
        parts.append(
            "Above what the network is given (or the picture of the effect), below what the device "
            "finds; on the left as it should be, on the right with the fault."
        )
    parts.append(f"In the terminal: `panokit explain {topic['name']}`")
    return "\n\n".join(parts) + "\n"


def _day() -> str:
    """The day of the last commit, or today's."""
    try:
        done = subprocess.run(
            ["git", "log", "-1", "--format=%cs"],  # noqa: S607 - the git on the path
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return date.today().isoformat()
    return done.stdout.strip() or date.today().isoformat()
