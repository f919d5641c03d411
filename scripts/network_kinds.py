"""Convert every kind of network of tests/networks in every format, and write docs/operators.md.

    python scripts/network_kinds.py                       # all, about a quarter of an hour
    python scripts/network_kinds.py --results kinds.json  # goes on with what this file holds

Each kind is converted alone, as float32, and compared with the module as given.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.networks.harness import convert_kinds  # noqa: E402
from tests.networks.kinds import GROUPS, KINDS  # noqa: E402

FORMATS = {"tflite": "TFLite", "coreml": "Core ML", "onnx": "ONNX"}
Results = dict[str, dict[str, list[str]]]

HEAD = """# Networks of other people: what is converted

{count} kinds of small networks, each a stem, the layer it is about, and three heads, were exported
alone, in float32, and compared with the module as given on pictures (the worst head must reach
60 dB). Made by `python scripts/network_kinds.py`; `tests/networks` holds the kinds.

| format | equal to the module | made, not run here | refused in a sentence | wrong or a traceback |
|---|---|---|---|---|
{totals}

**Equal** is the rule. What a converter has no form of is rewritten into operators that it has
(`panokit_converters.program.rewrites`): resizes and pools of odd sizes become products with fixed
matrices, windows become slices, what is written in place becomes joined parts, and what depends on
weights alone is computed once. Sizes, loops and assertions on shapes are constants by then.

**Not run here**: coremltools wrote the package, and the interpreter that checks packages does not
know an operator in it. Core ML may run it; check it on a Mac.

**Refused**: the sentence names the layer in your module, the operator and a way round; `--debug`
shows what the tool said.

## What is not converted
{refused}

## All kinds
{tables}
"""


def main() -> None:
    """Convert what is not known yet, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="JSON file to go on with, and to write to")
    chosen = parser.parse_args()
    results: Results = {format: {} for format in FORMATS}
    if chosen.results and chosen.results.exists():
        results |= json.loads(chosen.results.read_text(encoding="utf-8"))
    warnings.simplefilter("ignore")
    for format in FORMATS:
        for name in KINDS:
            if name in results[format]:
                continue
            with tempfile.TemporaryDirectory() as folder:
                outcome = convert_kinds([name], format, Path(folder))[name]
            results[format][name] = [outcome.word, outcome.text]
            sys.stderr.write(f"{format:7} {outcome.word:9} {name}\n")
            if chosen.results:
                chosen.results.write_text(json.dumps(results, indent=1), encoding="utf-8")
    (ROOT / "docs" / "operators.md").write_text(page(results), encoding="utf-8")


def page(results: Mapping[str, Mapping[str, list[str]]]) -> str:
    """The page of these outcomes."""
    totals = []
    for format, title in FORMATS.items():
        words = [results[format][name][0] for name in KINDS]
        bad = words.count("wrong") + words.count("traceback")
        counts = [words.count(w) for w in ("ok", "unchecked", "sentence")] + [bad]
        totals.append(f"| {title} | {' | '.join(map(str, counts))} |")
    return HEAD.format(
        count=len(KINDS),
        totals="\n".join(totals),
        refused="\n".join(_refused(results)),
        tables="\n\n".join(_table(title, group, results) for title, group in GROUPS.items()),
    )


def _refused(results: Mapping[str, Mapping[str, list[str]]]) -> list[str]:
    lines = ["| kind | format | |", "|---|---|---|"]
    for name in KINDS:
        for format, title in FORMATS.items():
            word, text = results[format][name]
            if word != "ok":
                said = re.sub(
                    r"^\S*(?:Core ML|TFLite|ONNX|mlpackage): ", "", text.partition(";")[0]
                )
                lines.append(f"| {_plain(name)} | {title} | {word}: {said.replace('|', '/')} |")
    return lines


def _table(
    title: str, names: Mapping[str, object], results: Mapping[str, Mapping[str, list[str]]]
) -> str:
    lines = [f"### {title}", "| kind | TFLite | Core ML | ONNX |", "|---|---|---|---|"]
    for name in names:
        cells = [_cell(*results[format][name]) for format in FORMATS]
        lines.append(f"| {_plain(name)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(word: str, text: str) -> str:
    return text if word == "ok" else word


def _plain(name: str) -> str:
    return name.replace("_", " ")


if __name__ == "__main__":
    main()
