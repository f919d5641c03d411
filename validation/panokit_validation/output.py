"""Machine-readable results, written as they come: JSON and JUnit XML."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import escape, quoteattr

from panokit import __version__
from panokit._files import replacing
from panokit_validation.summary import RunSummary
from panokit_validation.words import sentence_of
from panokit_validation.worker import Outcome

__all__ = ["SCHEMA", "JsonWriter", "JunitWriter", "OutcomeWriter", "github_annotation"]

SCHEMA = "panokit-validate/1"
"""Version of the JSON; ``docs/validate.schema.json`` describes it."""


class OutcomeWriter:
    """A file that appears under its name when it is whole. Use it with ``with``."""

    def __init__(self, path: Path) -> None:
        self._stack = ExitStack()
        partial = self._stack.enter_context(replacing(path))
        self._file: IO[str] = self._stack.enter_context(partial.open("w", encoding="utf-8"))

    def __enter__(self) -> OutcomeWriter:
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._stack.__exit__(kind, error, traceback)

    def _scratch(self) -> IO[str]:
        """A temporary file for what has to come later."""
        file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115
        return self._stack.enter_context(file)

    def add(self, outcome: Outcome) -> None:
        """Write one outcome."""
        raise NotImplementedError

    def finish(self, summary: RunSummary, extra: dict[str, Any]) -> None:
        """Write what follows the outcomes."""
        raise NotImplementedError


class JsonWriter(OutcomeWriter):
    """``{"schema", "panokit", "photos": […], "refused": […], "verdict", …}``."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        head = json.dumps({"schema": SCHEMA, "panokit": __version__})
        self._file.write(head[:-1] + ', "photos": [')
        self._refused = self._scratch()
        self._counts = [0, 0]

    def add(self, outcome: Outcome) -> None:
        """Write one outcome: a photo at once, a refusal after the last photo."""
        refused = outcome.photo is None
        target: IO[str] = self._refused if refused else self._file
        data = {"dump": outcome.dump, "reason": outcome.reason} if refused else outcome.photo
        comma = "," if self._counts[refused] else ""
        target.write(f"{comma}\n{json.dumps(data)}")
        self._counts[refused] += 1

    def finish(self, summary: RunSummary, extra: dict[str, Any]) -> None:
        """Write the refusals, the summary and ``extra``."""
        self._file.write('\n],\n"refused": [')
        self._refused.seek(0)
        shutil.copyfileobj(self._refused, self._file)
        rest = json.dumps({**summary.to_json(), **extra}, indent=1)
        self._file.write("\n],\n" + rest[1:] + "\n")


class JunitWriter(OutcomeWriter):
    """A test case per dump: passed, failed, or (refused) in error."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._cases = self._scratch()

    def add(self, outcome: Outcome) -> None:
        """Write one outcome."""
        photo = outcome.photo
        if photo is None:
            body = f'<error message={_attribute(outcome.reason)} type="refused"/>'
            self._case("refused", outcome.dump, body)
            return
        metadata = photo["metadata"]
        group = ".".join(metadata[k] for k in ("device", "runtime") if metadata.get(k))
        lines = [f"{s['stage']}: {s['verdict']}: {s['message']}" for s in photo["stages"]]
        lines += [f"cause: {c['name']}: {c.get('advice', '')}" for c in photo["causes"]]
        lines += [f"warning: {w}" for w in photo["warnings"]]
        text = escape(_clean("\n".join(lines)))
        if photo["verdict"] == "fail":
            cause = f", cause: {photo['causes'][0]['name']}" if photo["causes"] else ""
            message = _attribute(f"first bad stage: {photo['first_bad_stage']}{cause}")
            body = f'<failure message={message} type="{photo["first_bad_stage"]}">{text}</failure>'
        else:
            body = f"<system-out>{text}</system-out>"
        self._case(group or "device", outcome.dump, body)

    def _case(self, group: str, name: str, body: str) -> None:
        names = f"classname={_attribute(group)} name={_attribute(name)}"
        self._cases.write(f"  <testcase {names}>{body}</testcase>\n")

    def finish(self, summary: RunSummary, extra: dict[str, Any]) -> None:
        """Write the counts, which come first, and then the cases."""
        counts = summary.counts
        totals = (
            f'tests="{sum(counts.values())}" failures="{counts["fail"]}" '
            f'errors="{counts["refused"]}"'
        )
        self._file.write(f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites {totals}>\n')
        self._file.write(f' <testsuite name="panokit validate" {totals}>\n')
        self._cases.seek(0)
        shutil.copyfileobj(self._cases, self._file)
        self._file.write(" </testsuite>\n</testsuites>\n")


def github_annotation(outcome: Outcome) -> str | None:
    """A line that GitHub Actions shows at the run: an error for a failure or a refusal, a warning
    for each of a dump's warnings; None for a dump that agrees."""
    photo = outcome.photo
    if photo is None:
        return _command("error", outcome.dump, f"refused: {outcome.reason}")
    if photo["verdict"] == "fail":
        return _command("error", outcome.dump, sentence_of(photo))
    if photo["warnings"]:
        return _command("warning", outcome.dump, "; ".join(photo["warnings"]))
    return None


def _command(kind: str, title: str, text: str) -> str:
    """A workflow command; see GitHub's documentation of workflow commands."""
    for a, b in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        title, text = title.replace(a, b), text.replace(a, b)
    for a, b in ((":", "%3A"), (",", "%2C")):
        title = title.replace(a, b)
    return f"::{kind} title={title}::{text}"


# What XML 1.0 cannot hold, and lone surrogates, which UTF-8 cannot.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _clean(text: str) -> str:
    return _ILLEGAL.sub("\ufffd", text)


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))
