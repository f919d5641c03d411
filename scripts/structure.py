"""Measure the structure of this project: rooms, lines, arrows, circles, repetition.

    python scripts/structure.py                 # the table
    python scripts/structure.py --json FILE     # figures for machines
    python scripts/structure.py --repo DIR      # of another checkout, for before and after

The guards in tests/test_layout.py use the same rooms and the same reading of imports: every import
of our own code counts, at module level, inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ROOMS: dict[str, tuple[str, set[str]]] = {
    # folder: package, and the packages that it may import
    "sdk": ("panokit", set()),
    "datasets": ("panokit_datasets", {"panokit"}),
    "validation": ("panokit_validation", {"panokit"}),
    "network": ("panokit_network", {"panokit", "panokit_datasets"}),
    "compression": (
        "panokit_compression",
        {"panokit", "panokit_datasets", "panokit_network"},
    ),
    "converters": ("panokit_converters", {"panokit", "panokit_datasets"}),
    "lab": (
        "panokit_lab",
        {
            "panokit",
            "panokit_datasets",
            "panokit_validation",
            "panokit_network",
            "panokit_compression",
            "panokit_converters",
        },
    ),
    "demo_app": ("panokit_demo", {"panokit", "panokit_validation", "panokit_datasets"}),
}
LONG_FUNCTION = 60  # lines
LONG_REPEAT = 12  # lines


@dataclass(frozen=True)
class Import:
    """One import of our own code: the file, the module it names, and where it stands."""

    file: str
    module: str
    line: int
    inside_function: bool


def python_files(repo: Path) -> dict[str, Path]:
    """Module name → file of everything in the rooms."""
    out = {}
    for folder, (package, _) in ROOMS.items():
        for path in sorted((repo / folder / package).rglob("*.py")):
            parts = path.relative_to(repo / folder).with_suffix("").parts
            out[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return out


def imports(module: str, path: Path, modules: dict[str, Path]) -> Iterator[Import]:
    """All imports of our own code in a file; ``from package import name`` counts for the module of
    that name where there is one, else for the package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [a.name for a in node.names]
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if path.name == "__init__.py" else module.rpartition(".")[0]
                base = ".".join([*package.split(".")[: 1 - node.level or None], base]).rstrip(".")
            names = [f"{base}.{a.name}" for a in node.names]
        for name in names:
            found = name if name in modules else name.rpartition(".")[0]
            if found in modules and found != module:
                yield Import(module, found, node.lineno, id(node) in inside)


def all_imports(repo: Path) -> list[Import]:
    """Every import of our own code by our own code."""
    modules = python_files(repo)
    return [i for name, path in modules.items() for i in imports(name, path, modules)]


def arrows_upward(found: list[Import]) -> list[Import]:
    """Imports that a room may not make."""
    allowed = {package: {package, *below} for package, below in ROOMS.values()}
    return [i for i in found if _top(i.module) not in allowed[_top(i.file)]]


def circles(found: list[Import]) -> list[list[str]]:
    """Groups of files that import one another round and round (strongly connected components). A
    package's ``__init__`` counts as a file."""
    graph: dict[str, set[str]] = defaultdict(set)
    for i in found:
        graph[i.file].add(i.module)
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    out: list[list[str]] = []

    def visit(node: str) -> None:  # Tarjan
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                out.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(out)


def _top(module: str) -> str:
    return module.partition(".")[0]


def long_functions(repo: Path) -> list[tuple[str, str, int]]:
    """Functions of more than :data:`LONG_FUNCTION` lines: module, name, lines."""
    out = []
    for module, path in python_files(repo).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > LONG_FUNCTION:
                    out.append((module, node.name, lines))
    return sorted(out, key=lambda f: -f[2])


def repeats(repo: Path) -> list[tuple[str, int, str, int, int]]:
    """Pairs of places that share :data:`LONG_REPEAT` lines or more to the letter, but for white
    space, blank lines, comments and imports: file, line, other file, its line, shared lines."""
    lines: dict[str, list[tuple[int, str]]] = {}
    for module, path in python_files(repo).items():
        text = path.read_text(encoding="utf-8").splitlines()
        lines[module] = [
            (n, s)
            for n, s in enumerate((line.strip() for line in text), 1)
            if s and not s.startswith(("#", "import ", "from ")) and len(s) > 1
        ]
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for module, own in lines.items():
        for at in range(len(own) - LONG_REPEAT + 1):
            block = tuple(s for _, s in own[at : at + LONG_REPEAT])
            places[block].append((module, at))
    pairs: dict[tuple[str, int, str, int], int] = {}
    for where in places.values():
        for i, (a, x) in enumerate(where):
            for b, y in where[i + 1 :]:
                if a == b and abs(x - y) < LONG_REPEAT:
                    continue
                before = (a, x - 1, b, y - 1)
                pairs[(a, x, b, y)] = pairs.pop(before, LONG_REPEAT - 1) + 1
    return [
        (
            a,
            lines[a][max(0, x - n + LONG_REPEAT)][0],
            b,
            lines[b][max(0, y - n + LONG_REPEAT)][0],
            n,
        )
        for (a, x, b, y), n in sorted(pairs.items(), key=lambda p: -p[1])
    ]


def any_in_public_signatures(repo: Path) -> list[tuple[str, str]]:
    """Public functions and methods with ``Any`` as a parameter or a result (not inside
    ``dict[str, Any]`` and the like, which is JSON)."""
    out = []
    for module, path in python_files(repo).items():
        for scope in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(scope, ast.Module | ast.ClassDef):
                continue
            if isinstance(scope, ast.ClassDef) and scope.name.startswith("_"):
                continue
            for node in scope.body:
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if node.name.startswith("_"):
                    continue
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                hints = [a.annotation for a in arguments] + [node.returns]
                if any(isinstance(h, ast.Name) and h.id == "Any" for h in hints):
                    out.append((module, node.name))
    return out


def entry_point_lookups(repo: Path) -> list[str]:
    """Modules that look up entry points; commands and segmenters are the only ones meant to be
    found so."""
    return sorted(
        m for m, p in python_files(repo).items() if "entry_points(" in p.read_text(encoding="utf-8")
    )


def lines_of(repo: Path) -> dict[str, int]:
    """Lines of Python in each room."""
    out: dict[str, int] = defaultdict(int)
    folders = {package: folder for folder, (package, _) in ROOMS.items()}
    for module, path in python_files(repo).items():
        out[folders[_top(module)]] += len(path.read_text(encoding="utf-8").splitlines())
    return dict(out)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repo", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--json", type=Path, help="write the figures")
    parser.add_argument("--list", action="store_true", help="name each place")
    args = parser.parse_args()
    found = all_imports(args.repo)
    lines = lines_of(args.repo)
    total = sum(lines.values())
    lists: dict[str, list[object]] = {
        "import circles between files": list(circles(found)),
        "arrows that no room may draw": list(arrows_upward(found)),
        f"functions over {LONG_FUNCTION} lines": list(long_functions(args.repo)),
        f"repeated blocks of {LONG_REPEAT} lines or more": list(repeats(args.repo)),
        "imports of our own code inside functions": [i for i in found if i.inside_function],
        "`Any` in public signatures": list(any_in_public_signatures(args.repo)),
        "modules that look up entry points": list(entry_point_lookups(args.repo)),
    }
    for folder, count in lines.items():
        print(f"{folder:12} {count:6} lines  {count / total:5.1%}")  # noqa: T201
    print(f"{'all':12} {total:6} lines")  # noqa: T201
    for name, items in lists.items():
        print(f"{len(items):6}  {name}")  # noqa: T201
        for item in items if args.list else []:
            print(f"          {item}")  # noqa: T201
    if args.json:
        figures = {"lines": lines, **{name: len(items) for name, items in lists.items()}}
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
