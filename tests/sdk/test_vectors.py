"""Golden vectors: complete, the same every time, and a checker that finds what is wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from panokit.cli.vectors import vectors
from panokit.decoding import DecodingSettings, Heads
from panokit.decoding.settings import DEFAULT_CONTRACT
from panokit.errors import ArgumentError, DataError
from panokit.runtime import dequantize
from panokit.vectors import CONTRACTS, all_cases, check_suite, compute, read_case, write_suite
from panokit.vectors.cases import ContractCase, DecodeCase, PreprocessCase
from panokit.vectors.check import STAGES
from tests.toys.slow_postprocessing import slow_postprocess


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vectors") / "suite"
    write_suite(folder)
    return folder


@pytest.fixture
def results(suite: Path, tmp_path: Path) -> Path:
    """What a right port would write."""
    folder = tmp_path / "results"
    folder.mkdir()
    for case in all_cases():
        tensors, described = compute(case)
        texts = {k: json.dumps(v) for k, v in described.items()}
        save_file(
            {k: np.ascontiguousarray(v) for k, v in tensors.items()},
            folder / f"{case.name}.safetensors",
            texts,
        )
    return folder


def test_there_are_many_cases_with_names_of_their_own() -> None:
    names = [c.name for c in all_cases()]
    assert len(names) >= 60
    assert len(set(names)) == len(names)
    assert all(c.about.endswith(".") for c in all_cases())


def test_the_suite_is_the_same_every_time(suite: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    assert write_suite(again) == len(all_cases())
    files = sorted(p.name for p in suite.iterdir())
    assert files == sorted(p.name for p in again.iterdir())
    for name in files:
        assert (suite / name).read_bytes() == (again / name).read_bytes(), name


DECODES = [c for c in all_cases() if isinstance(c, DecodeCase) and not c.name.startswith("error-")]


@pytest.mark.parametrize("case", DECODES, ids=lambda c: c.name)
def test_expected_values_are_those_of_plain_loops(case: DecodeCase) -> None:
    tensors, described = compute(case)
    heads = Heads.from_arrays(dequantize(case.raw, case.specs))
    slow = slow_postprocess(heads, case.taxonomy, case.transform, case.config)
    for name, expected in {**slow.explain, "ids": slow.ids}.items():
        assert (tensors[name] == expected).all(), name
    assert [(s["id"], s["area"]) for s in described["segments"]] == [
        (s[0], s[2]) for s in slow.segments
    ]
    for found, loop in zip(described["segments"], slow.segments, strict=True):
        assert found["category_id"] == case.taxonomy.categories[loop[1]].id
        assert found["score"] == pytest.approx(loop[3], abs=5e-6)


def expected_centers(name: str) -> list[list[int]]:
    (case,) = (c for c in all_cases() if c.name == name)
    centers: list[list[int]] = compute(case)[0]["centers"].tolist()
    return centers


@pytest.mark.parametrize(
    ("name", "centers"),
    [
        ("plateau-block-3", [[2, 2]]),
        ("plateau-everywhere-3", [[0, 0]]),
        ("plateau-row-3", [[3, 1]]),
        ("top-k-2-of-4", [[7, 7], [0, 7]]),
        ("top-k-2-of-4-tied", [[0, 0], [0, 7]]),
        ("top-k-shared-last", [[0, 7], [7, 0], [0, 0]]),
        ("centre-saturated", [[1, 1], [4, 4]]),
        ("threshold-met", [[1, 2]]),
        ("threshold-missed", []),
        ("threshold-one", [[0, 0]]),
        ("padding-centre", [[4, 4]]),
        ("padding-suppresses", [[5, 1]]),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_centres_that_can_be_told_by_hand(name: str, centers: list[list[int]]) -> None:
    assert expected_centers(name) == centers


def test_the_reference_and_a_right_port_pass(suite: Path, results: Path) -> None:
    assert all(c.good for c in check_suite(suite))
    assert all(c.good for c in check_suite(suite, results))


def _rewrite(path: Path, change: Callable[[dict, dict], None]) -> None:
    tensors, metadata = read_case(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata)


def _one_vote(tensors: dict, metadata: dict) -> None:
    tensors["votes"][2, 2] += 1
    tensors["ids"][2, 2] += 1


def _one_score(tensors: dict, metadata: dict) -> None:
    segments = json.loads(metadata["segments"])
    segments[0]["score"] += 1e-4
    metadata["segments"] = json.dumps(segments)


def _no_ids(tensors: dict, metadata: dict) -> None:
    del tensors["ids"]


def _one_segment_less(tensors: dict, metadata: dict) -> None:
    metadata["segments"] = json.dumps(json.loads(metadata["segments"])[1:])


def _other_shape(tensors: dict, metadata: dict) -> None:
    tensors["ids"] = tensors["ids"][1:]


@pytest.mark.parametrize(
    ("change", "stage", "reason"),
    [
        (_one_vote, "votes", r"1 of 25 values differ, first at \(2, 2\): expected 0, got 1"),
        (_one_score, "segments", "segment 1, score"),
        (_no_ids, "ids", "is missing"),
        (_one_segment_less, "segments", "expected 2 segments, got 1"),
        (_other_shape, "ids", r"expected shape \(5, 5\), got \(4, 5\)"),
    ],
    ids=["vote", "score", "no-ids", "segment", "shape"],
)
def test_the_first_wrong_stage_is_named(
    suite: Path, results: Path, change: Callable[[dict, dict], None], stage: str, reason: str
) -> None:
    _rewrite(results / "vote-tie.safetensors", change)
    (wrong,) = (c for c in check_suite(suite, results) if not c.good)
    assert (wrong.name, wrong.stage) == ("vote-tie", stage)
    assert re.search(reason, wrong.reason)


def test_axes_of_one_are_no_difference(suite: Path, results: Path) -> None:
    for path in results.glob("*.safetensors"):
        tensors, texts = read_case(path)
        changed = {
            k: v[..., 0] if k == "real.center" and v.shape[-1] == 1 else v[None]
            for k, v in tensors.items()
        }
        save_file({k: np.ascontiguousarray(v) for k, v in changed.items()}, path, texts)
    assert all(c.good for c in check_suite(suite, results))


def test_a_wrong_number_of_values_is_a_difference(suite: Path, results: Path) -> None:
    path = next(results.glob("*.safetensors"))
    tensors, texts = read_case(path)
    stage = "ids" if "ids" in tensors else "input"
    tensors[stage] = tensors[stage][:-1]
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, texts)
    (wrong,) = (c for c in check_suite(suite, results) if not c.good)
    assert (wrong.name, wrong.stage) == (path.stem, stage)


def test_errors_missing_files_and_rubbish_are_told(suite: Path, results: Path) -> None:
    _rewrite(results / "error-nan-semantic.safetensors", lambda t, m: m.update(error="null"))
    (results / "vote-tie.safetensors").unlink()
    (results / "one-pixel.safetensors").write_bytes(b"rubbish")
    wrong = {c.name: c.stage for c in check_suite(suite, results) if not c.good}
    assert wrong == {"error-nan-semantic": "error", "vote-tie": "file", "one-pixel": "file"}


def test_errors_name_head_and_position() -> None:
    errors = {c.name: compute(c)[1]["error"] for c in all_cases() if c.name.startswith("error-")}
    assert errors == {
        "error-nan-semantic": {"head": "semantic", "position": [2, 1, 3]},
        "error-inf-center": {"head": "center", "position": [0, 3]},
        "error-minus-inf-offset": {"head": "offset", "position": [3, 2, 1]},
        "error-overflowing-offset": {"head": "offset", "position": [1, 0, 0]},
    }


def test_folders_that_are_no_suites_are_left_alone(suite: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ArgumentError, match="new or empty folder, or an older suite"):
        write_suite(tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    with pytest.raises(DataError, match="expected a suite of golden vectors"):
        check_suite(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(suite, copy)
    (copy / "suite.json").write_text('{"format": "other/9"}')
    with pytest.raises(DataError, match="expected format 'panokit-vectors/1', got 'other/9'"):
        check_suite(copy)


def test_case_names_cannot_lead_out_of_the_folder(suite: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(suite, copy)
    index = json.loads((copy / "suite.json").read_text())
    index["cases"][0]["name"] = "../outside"
    (copy / "suite.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="plain case names"):
        check_suite(copy)


def test_preprocessing_cases_hold_extremes() -> None:
    cases = {c.name: c for c in all_cases() if isinstance(c, PreprocessCase)}
    tensors, _ = compute(cases["preprocess-quantised"])
    # 255 / 2 = 127.5 goes to 128, the even one; 128 + 17 is clipped at 127. 1 / 2 goes to 0.
    assert tensors["quantized"][-1, -1, 0] == 127
    assert tensors["quantized"][0, :4, 0].tolist() == [17, 17, 18, 19]


def test_command_line(suite: Path, results: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    written = runner.invoke(vectors, ["write", str(tmp_path / "s"), "--json", str(tmp_path / "w")])
    assert written.exit_code == 0, written.output
    assert json.loads((tmp_path / "w").read_text())["cases"] == len(all_cases())
    report = tmp_path / "r.json"
    assert runner.invoke(vectors, ["check", str(suite)]).exit_code == 0
    _rewrite(results / "vote-tie.safetensors", _no_ids)
    failed = runner.invoke(vectors, ["check", str(suite), str(results), "--json", str(report)])
    assert failed.exit_code == 1
    data = json.loads(report.read_text())
    assert data["verdict"] == "fail"
    assert [c["name"] for c in data["cases"] if not c["good"]] == ["vote-tie"]


OTHERS = [name for name in CONTRACTS if name != DEFAULT_CONTRACT]


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite of each other contract, in folders by its name."""
    folder = tmp_path_factory.mktemp("contracts")
    for contract in OTHERS:
        write_suite(folder / contract, contract)
    return folder


@pytest.mark.parametrize("contract", OTHERS)
def test_cases_of_other_contracts_say_all_that_decoding_takes(suites: Path, contract: str) -> None:
    index = json.loads((suites / contract / "suite.json").read_text())
    assert (index["format"], index["contract"]) == ("panokit-vectors/1", contract)
    cases = all_cases(contract)
    assert [e["name"] for e in index["cases"]] == [c.name for c in cases]
    assert len({c.name for c in cases}) == len(cases)
    for entry, case in zip(index["cases"], cases, strict=True):
        assert isinstance(case, ContractCase)
        assert case.about.endswith(".")
        assert entry["contract"] == contract
        settings = DecodingSettings.from_json(entry["settings"])
        assert settings == case.settings
        tensors, _ = read_case(suites / contract / entry["file"])
        raw = {k.removeprefix("in."): v for k, v in tensors.items() if k.startswith("in.")}
        assert raw.keys() == set(settings.head_names())
        if "error" in entry["expected"]:
            assert raw.keys() == {k.removeprefix("in.") for k in tensors}
            continue
        decoded = settings.decode(
            settings.read_heads(raw), case.taxonomy, case.transform, explain=True
        )
        assert (decoded.ids == tensors["ids"]).all()
        assert decoded.explain.keys() == {
            k for k in tensors if not k.startswith("in.") and k not in ("ids", "photo_ids")
        }
        assert decoded.explain.keys() < set(STAGES)


@pytest.mark.parametrize("contract", OTHERS)
def test_suites_of_other_contracts_are_the_same_every_time(
    suites: Path, tmp_path: Path, contract: str
) -> None:
    assert write_suite(tmp_path / "again", contract) == len(all_cases(contract))
    for path in (suites / contract).iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("contract", OTHERS)
def test_suites_of_other_contracts_are_checked(suites: Path, tmp_path: Path, contract: str) -> None:
    runner, report = CliRunner(), tmp_path / "report.json"
    done = runner.invoke(vectors, ["check", str(suites / contract)])
    assert done.exit_code == 0, done.output
    results = tmp_path / "results"
    shutil.copytree(suites / contract, results)
    name = next(c.name for c in all_cases(contract) if len(compute(c)[1].get("segments", ())) > 1)
    _rewrite(results / f"{name}.safetensors", lambda t, m: t["ids"].__setitem__((0, 0), 99))
    missing = [c.name for c in all_cases(contract) if "error" in compute(c)[1]]
    command = ["check", str(suites / contract), str(results), "--json", str(report)]
    assert runner.invoke(vectors, command).exit_code == 1
    wrong = {c["name"]: c["stage"] for c in json.loads(report.read_text())["cases"] if c["stage"]}
    assert wrong == {name: "ids"} | dict.fromkeys(missing, "error")


def test_contracts_that_are_not_there_are_told(suites: Path, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="there is no contract 'masks'"):
        write_suite(tmp_path / "new", "masks")
    copy = tmp_path / "copy"
    shutil.copytree(suites / OTHERS[0], copy)
    index = json.loads((copy / "suite.json").read_text()) | {"contract": ["other"]}
    (copy / "suite.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match=r"expected a contract, one of .*; got \['other'\]"):
        check_suite(copy)


def test_every_contract_has_vectors() -> None:
    assert set(CONTRACTS) == set(DecodingSettings.contracts())


@pytest.mark.parametrize("contract", OTHERS)
def test_the_page_has_the_number_of_cases(contract: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "contracts.md").read_text(encoding="utf-8")
    (count,) = re.findall(rf"^\| `{contract}` \| .* \| (\d+) \|$", page, re.M)
    assert int(count) == len(all_cases(contract))


TRAPS = {
    "mask-queries": [*range(1, 19)],
    "instances": [*range(21, 33)],
    "semantic": [33, 34],
    "instances-semantic": [30, 35, 36, 37],
}


@pytest.mark.parametrize("contract", OTHERS)
def test_every_known_trap_has_a_case(contract: str) -> None:
    named = {
        int(n) for c in all_cases(contract) for n in re.findall(r"^[a-z-]*?[misp](\d+)-", c.name)
    }
    assert set(TRAPS[contract]) <= named


@pytest.mark.parametrize("contract", OTHERS)
def test_command_line_of_a_contract(suites: Path, tmp_path: Path, contract: str) -> None:
    done = CliRunner().invoke(vectors, ["write", str(tmp_path / "s"), "--contract", contract])
    assert done.exit_code == 0, done.output
    assert f"{len(all_cases(contract))} cases" in done.output
    same = (suites / contract / "suite.json").read_bytes()
    assert (tmp_path / "s" / "suite.json").read_bytes() == same
