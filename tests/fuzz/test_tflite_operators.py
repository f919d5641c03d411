"""No TFLite file of any operator ends the process: it is refused, runs, or LiteRT raises."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from panokit.errors import BundleError
from panokit.tflite.check import check_tflite_bytes, is_trusted, trust_files
from panokit.tflite.rules import RULES
from tests.fuzz.children import use_all
from tests.fuzz.rounds import rounds
from tests.fuzz.tflite_operators import CODES, draw

FILES = rounds(1200, 20_000)

pytestmark = pytest.mark.slow


def test_every_rule_is_of_an_operator_that_there_is() -> None:
    assert set(RULES) <= set(CODES)


def test_files_of_every_operator_crash_nothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    names = sorted(CODES)
    passed: Counter[str] = Counter()
    files: list[Path] = []
    for number in range(FILES):
        # Those with a rule more often: the others are all refused.
        name = names[number % len(names)] if number % 4 == 0 else str(rng.choice(sorted(RULES)))
        content = draw(rng, name)
        try:
            check_tflite_bytes(content)
        except BundleError:
            continue
        assert name in RULES
        passed[name] += 1
        files.append(tmp_path / f"{number}-{name}.tflite")
        files[-1].write_bytes(content)
    assert len(files) > FILES // 8
    assert len(passed) > min(60, FILES // 16)
    report = use_all("tflite", files)
    report.check()
    assert report.ran == len(files)


def test_what_is_trusted_is_not_asked_for_its_operators() -> None:
    rng = np.random.default_rng(3)
    content = next(c for c in iter(lambda: draw(rng, "SIN"), b"") if _is_sound(c))
    changed = content.replace(bytes([CODES["SIN"]]), bytes([CODES["RANK"]]))
    with pytest.raises(BundleError, match="known to be safe"):
        check_tflite_bytes(changed)
    assert not is_trusted()
    trust_files()
    try:
        check_tflite_bytes(changed)
    finally:
        trust_files(False)


def _is_sound(content: bytes) -> bool:
    try:
        check_tflite_bytes(content)
    except BundleError:
        return False
    return True
