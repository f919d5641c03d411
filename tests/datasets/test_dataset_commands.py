"""`panokit dataset`: what it says, converts, draws and splits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit_datasets.classes import ClassList
from panokit_datasets.conversion import convert
from panokit_datasets.duplicates import NEAR, near_pairs, photo_hash
from panokit_datasets.inspection import Place, inspect
from panokit_datasets.journal import Journal
from panokit_datasets.problems import KINDS, LabelError
from panokit_datasets.reader import Options
from panokit_datasets.readers import find_datasets, open_dataset, writers
from panokit_datasets.splitting import joined, stratified
from tests.datasets.test_readers import CROWD, PLAIN, SETS, STREET, described, expected
from tests.toys import datasets as toy


def run(*words: object) -> tuple[int, str]:
    """Exit code and all that was said."""
    result = CliRunner().invoke(app, ["dataset", *map(str, words)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


# ------------------------------------------------------------------------------------- converting

# Formats that hold neither crowds nor stuff, or only some of it.
LOSSES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "voc": (PLAIN, {}),
    "cvat-masks": (PLAIN, {}),
    "coco-instances": (PLAIN, CROWD),
    "ade20k": (STREET, {}),
    "label-studio": (STREET, {}),
}


@pytest.mark.parametrize("kind", writers())
def test_every_kind_is_written_and_read_back(kind: str, tmp_path: Path) -> None:
    toy.cityscapes(tmp_path / "in")
    place = Place(tmp_path / "in", "val", "cityscapes", Options())
    result = convert(place, kind, tmp_path / "out")
    assert (result.photos, result.problems) == (2, ())
    (found, splits), *_ = find_datasets(tmp_path / "out").items()
    assert (found.kind, splits) == (kind, ["val"])
    reader = open_dataset(tmp_path / "out")
    assert len(reader) == 2
    bound = writers()[kind].class_list
    scenes = []
    for index in (0, 1):
        assert reader.photo(index).size_wh == (12, 8)
        scenes.append(described(reader, index))
    classes, crowds = LOSSES.get(kind, (STREET, CROWD))
    if kind == "cvat-masks":  # all classes are things there: stuff is an area without instances
        scenes = [{s for s in scene if s[0] not in ("sky", "road", "car") or s[1] == "thing"}
                  for scene in scenes]  # fmt: skip
    if kind == "voc":
        scenes = [{s for s in scene if s[1] == "thing"} for scene in scenes]
    if kind in ("mapillary-v1.2", "mapillary-v2.0"):  # their instances have no crowds
        scenes = [
            {(n.lower(), k, m) for n, k, m in scene if m != (toy.letters(i) == "g").tobytes()}
            for i, scene in enumerate(scenes)
        ]
        crowds = {}
    if kind == "motchallenge-step":
        classes, crowds = {"p": "person", "q": "person", "s": "sky"}, {}
    wanted = [expected(classes, crowds, i) for i in (0, 1)]
    assert all(w in scenes for w in wanted), (kind, bound)


@pytest.mark.parametrize("source", ["cityscapes", "kitti_2d", "kitti_step", "coco_joined"])
def test_any_set_becomes_one_of_camera_classes(source: str, tmp_path: Path) -> None:
    getattr(toy, source)(tmp_path / "in")
    out = tmp_path / "out"
    code, said = run("convert", tmp_path / "in", "--to", "coco-panoptic", "--classes", "camera",
                     "--out", out)  # fmt: skip
    assert code == 0, said
    reader = open_dataset(out)
    assert reader.taxonomy == ClassList.named("camera").taxonomy
    assert described(reader, 0) == expected(STREET, CROWD, 0)
    assert run("check", out)[0] == 0
    mapping = json.loads(next(out.glob("mapping-*.json")).read_text("utf-8"))
    assert mapping["target"] == "camera"


def test_our_loader_reads_what_was_converted(tmp_path: Path) -> None:
    from panokit_datasets import load_truth

    toy.cityscapes(tmp_path / "in")
    place = Place(tmp_path / "in", "val", "cityscapes", Options(every_class=True))
    convert(place, "coco-panoptic", tmp_path / "out", target=ClassList.named("camera"))
    photos = load_truth(tmp_path / "out", "val", ClassList.named("camera").taxonomy)
    assert [len(p.segments) for p in photos] == [7, 7]


def test_a_border_is_ignored_under_the_nearest_class(tmp_path: Path) -> None:
    toy.voc(tmp_path / "in")
    for path in (tmp_path / "in").rglob("Segmentation*/2007_000000.png"):
        values = np.where(toy.letters(0) == "r", 255, np.asarray(Image.open(path)))
        toy.grey(path, values, 8, toy.VOC_PALETTE)
    out = tmp_path / "out"
    place = Place(tmp_path / "in", "val", "voc", Options(every_class=True))
    convert(place, "coco-panoptic", out, target=ClassList.named("camera"))
    reader = open_dataset(out)
    truth = reader.truth(0)
    ignored = [s for s in truth.segments if s.ignore]
    covered = np.isin(truth.ids, [s.id for s in ignored])
    grid = toy.letters(0)
    assert (covered[grid == "r"]).all()
    assert not covered[np.isin(grid, list("pqcds."))].any()
    names = {reader.taxonomy.categories[s.channel].name for s in ignored}
    assert names == {"person", "car"}


def test_a_mapping_of_ones_own(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path / "in")
    classes = {"things": ["vehicle"], "stuff": ["ground", "people"]}
    toy.write_json(tmp_path / "classes.json", classes)
    mapping = {"thing": {"vehicle": ["car", "truck"]}, "stuff": {"ground": ["road"]}}
    toy.write_json(tmp_path / "map.json", mapping | {"stuff": {"people": ["person"]}})
    words = ["convert", tmp_path / "in", "--to", "label-pngs", "--out", tmp_path / "out"]
    words += ["--classes", tmp_path / "classes.json", "--map", tmp_path / "map.json"]
    code, said = run(*words)
    assert code == 0
    assert "have no counterpart and become void" in said
    found = described(open_dataset(tmp_path / "out"), 0)
    grid = toy.letters(0)
    assert ("people", "stuff", ((grid == "p") | (grid == "q")).tobytes()) in found
    assert ("vehicle", "thing", (grid == "c").tobytes()) in found
    toy.write_json(tmp_path / "map.json", {"thing": {"vehicle": ["lorry"]}})
    with pytest.raises(Exception, match="lorry"):
        run(*words)


def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy.cityscapes(tmp_path / "in")
    place = Place(tmp_path / "in", "val", "cityscapes", Options())
    writer = writers()["coco-panoptic"]
    written: list[str] = []
    once = writer.write

    def write(self: Any, sample: Any) -> dict[str, Any]:
        if len(written) == 1:
            written.append("interrupted")
            raise KeyboardInterrupt
        written.append(sample.name)
        return once(self, sample)

    monkeypatch.setattr(writer, "write", write)
    with pytest.raises(KeyboardInterrupt):
        convert(place, "coco-panoptic", tmp_path / "out")
    assert not (tmp_path / "out/annotations").exists()
    convert(place, "coco-panoptic", tmp_path / "out")
    assert len(written) == 3  # the first photo was not written again
    assert len(open_dataset(tmp_path / "out")) == 2
    assert not list((tmp_path / "out").glob(".*"))
    (tmp_path / "out/.converting-val.jsonl").write_text('["settings", {}]\n', encoding="utf-8")
    with pytest.raises(Exception, match="of another conversion"):
        convert(place, "coco-panoptic", tmp_path / "out")


def test_two_names_that_become_one_keep_apart(tmp_path: Path) -> None:
    toy.coco_instances(tmp_path / "in")
    data = toy.instances_json()
    for image, name in zip(data["images"], ("a b.jpg", "a_b.jpg"), strict=True):
        image["file_name"] = name
    toy.write_json(tmp_path / "in/annotations/instances_val2017.json", data)
    for i, name in enumerate(("a b.jpg", "a_b.jpg")):
        toy.photo(tmp_path / "in/val2017" / name, i)
    place = Place(tmp_path / "in", "val2017", "coco-instances", Options())
    assert convert(place, "coco-panoptic", tmp_path / "out").photos == 2
    reader = open_dataset(tmp_path / "out")
    assert len({reader.photo_path(i) for i in range(2)}) == 2


# --------------------------------------------------------------------------------------- checking


def broken_panoptic(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    toy.coco_panoptic(root)
    path = root / "annotations/panoptic_val2017.json"
    data = json.loads(path.read_text("utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def _first(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = data["annotations"][0]["segments_info"][0]
    return found


def _set(key: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda data: _first(data).update({key: value})


PANOPTIC: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "wrong area": (_set("area", 4), "wrong area"),
    "huge area": (_set("area", 10**40), "bad number"),
    "NaN area": (_set("area", float("nan")), "bad number"),
    "negative box": (_set("bbox", [-5, 0, 3, 3]), "wrong box"),
    "text box": (_set("bbox", "none"), "bad number"),
    "unknown category": (_set("category_id", 77), "unknown category"),
    "category as text": (_set("category_id", "sky"), "unknown category"),
    "id zero": (_set("id", 0), "id 0"),
    "id too large": (_set("id", 2**24), "id too large"),
    "id as NaN": (_set("id", float("nan")), "bad id"),
    "id of nothing": (_set("id", 12345), "id not in PNG"),
    "duplicate segment": (
        lambda d: d["annotations"][0]["segments_info"].append(dict(_first(d))), "duplicate id",
    ),
    "duplicate image": (lambda d: d["images"].append(dict(d["images"][0])), "duplicate id"),
    "duplicate annotation": (
        lambda d: d["annotations"].append(dict(d["annotations"][0])), "duplicate id",
    ),
    "duplicate category": (
        lambda d: d["categories"].append(dict(d["categories"][0])), "duplicate id",
    ),
    "no isthing": (lambda d: d["categories"][0].pop("isthing"), "no isthing"),
    "no annotation": (lambda d: d["annotations"].pop(), "no annotation"),
    "unlisted image": (lambda d: d["images"].pop(), "unlisted image"),
    "climbing path": (
        lambda d: d["annotations"][0].update(file_name="../../etc/passwd.png"), "unsafe path",
    ),
    "absolute path": (
        lambda d: d["images"][0].update(file_name="/etc/passwd"), "unsafe path",
    ),
    "wrong size": (lambda d: d["images"][0].update(width=13), "wrong size"),
    "huge size": (lambda d: d["images"][0].update(width=10**9), "bad number"),
    "missing PNG": (lambda d: d["annotations"][0].update(file_name="no.png"), "missing labels"),
    "missing photo": (lambda d: d["images"][0].update(file_name="no.jpg"), "missing photo"),
    "other case": (
        lambda d: d["images"][1].update(file_name="000000000000.JPG"), "other case",
    ),
    "ids as text": (
        lambda d: [i.update(id=str(i["id"])) for i in d["images"]], "id as text",
    ),
    "two crowds": (
        lambda d: d["annotations"][0]["segments_info"][4].update(iscrowd=1), "two crowds",
    ),
    "stuff twice": (
        lambda d: d["annotations"][0]["segments_info"][1].update(category_id=187), "stuff twice",
    ),
    "an entry that is none": (lambda d: d["images"].append(7), "bad id"),
}  # fmt: skip


@pytest.mark.parametrize("name", PANOPTIC)
def test_what_is_wrong_with_panoptic_json_is_found(name: str, tmp_path: Path) -> None:
    change, kind = PANOPTIC[name]
    path = broken_panoptic(tmp_path, change)
    if name == "other case":
        toy.photo(tmp_path / "val2017/000000000000.JPG", 1)
    code, said = run("check", tmp_path, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))["problems"]
    assert kind in found["by_kind"], (said, found)
    told = next(p for p in found["told"] if p["kind"] == kind)
    assert all(told[key] for key in ("file", "what", "fix"))
    assert (path.name in told["file"]) or Path(told["file"]).suffix in (".png", ".jpg", "")
    assert code == (1 if KINDS[kind].severity == "error" else 0)


def test_an_id_of_the_png_alone_and_a_png_of_another_kind_are_found(tmp_path: Path) -> None:
    toy.coco_panoptic(tmp_path)
    pngs = sorted((tmp_path / "panoptic_val2017").glob("*.png"))
    rgb = np.asarray(Image.open(pngs[0])).copy()
    rgb[0, 0] = 7
    Image.fromarray(rgb).save(pngs[0])
    Image.new("L", (12, 8)).save(pngs[1])
    _, said = run("check", tmp_path)
    assert re.search(r"id not in JSON .*000000000000\.png: segment id 460551", said)
    assert re.search(r"wrong mode .*000000000001\.png", said)


INSTANCES: dict[str, tuple[Any, str]] = {
    "NaN": ({"segmentation": [[1, 1, 4, float("nan"), 4, 4]]}, "bad number"),
    "text": ({"segmentation": [[1, 1, "4", 1, 4, 4]]}, "bad number"),
    "short": ({"segmentation": [[1, 1, 4, 1]]}, "bad polygon"),
    "odd": ({"segmentation": [[1, 1, 4, 1, 4, 4, 5]]}, "bad polygon"),
    "huge": ({"segmentation": [[1, 1, 4e30, 1, 4, 4]]}, "bad number"),
    "very long": ({"segmentation": [[1, 1, 9e8, 1, 4, 4]]}, "bad number"),
    "null": ({"segmentation": None}, "box without mask"),
    "empty": ({"segmentation": [], "bbox": []}, "empty mask"),
    "empty ring": ({"segmentation": [[]], "bbox": None}, "empty mask"),
    "no pixel": ({"segmentation": [[1, 1, 1, 1, 1, 1]]}, "empty mask"),
    "outside": ({"segmentation": [[8, 4, 30, 4, 30, 7, 8, 7]]}, "outside"),
    "all outside": ({"segmentation": [[20, 4, 30, 4, 30, 7]]}, "empty mask"),
    "runs too long": ({"segmentation": {"size": [8, 12], "counts": [5, 200]}}, "bad number"),
    "negative runs": ({"segmentation": {"size": [8, 12], "counts": [-4, 100]}}, "bad number"),
    "runs of another size": ({"segmentation": {"size": [9, 12], "counts": [108]}}, "wrong size"),
    "runs of nonsense": ({"segmentation": {"size": [8, 12], "counts": "\x01"}}, "bad number"),
    "negative box": ({"bbox": [1, 1, -3, 2]}, "bad number"),
    "negative area": ({"area": -3}, "bad number"),
    "unknown category": ({"category_id": 5}, "unknown category"),
    "no category": ({"category_id": None}, "unknown category"),
    "same id": ({"id": 2}, "duplicate id"),
    "a string": ("nothing", "bad id"),
}


@pytest.mark.parametrize("name", INSTANCES)
def test_what_is_wrong_with_instances_is_found(name: str, tmp_path: Path) -> None:
    change, kind = INSTANCES[name]
    toy.coco_instances(tmp_path)
    data = toy.instances_json()
    if isinstance(change, dict):
        data["annotations"][0].update(change)
    else:
        data["annotations"][0] = change
    toy.write_json(tmp_path / "annotations/instances_val2017.json", data)
    code, said = run("check", tmp_path, "--json", tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    assert kind in found["problems"]["by_kind"], said
    assert found["readable"] == 2  # one bad object spoils no photo
    assert code == (1 if KINDS[kind].severity == "error" else 0)


NO_JSON = ["", "[", "{", '{"annotations": [', "nonsense", '{"a": 1} 2']


@pytest.mark.parametrize("text", [*NO_JSON, '{"annotations": [{"segments_info": ' + "[" * 100_000])
def test_a_file_that_is_no_json_ends_in_a_sentence(text: str, tmp_path: Path) -> None:
    toy.coco_panoptic(tmp_path)
    path = tmp_path / "annotations/panoptic_val2017.json"
    path.write_text(text or " ", encoding="utf-8")
    with pytest.raises((LabelError, Exception), match=r"JSON|known here"):
        inspect([Place(tmp_path, "val2017", "coco-panoptic", Options())])


BROKEN = ("cut", "noise", "empty", "missing", "another size", "another kind", "a folder")


@pytest.mark.parametrize("name", SETS)
def test_every_broken_file_of_every_set_is_named_and_ends_no_run(name: str, tmp_path: Path) -> None:
    """Each label PNG and each photo is broken in each way; the other photo stays readable."""
    for way in BROKEN:
        root = tmp_path / way
        SETS[name][0](root)
        kind, splits = next(iter(find_datasets(root).items()))
        reader = open_dataset(root, splits[0], complain=lambda _: None)
        png = next((p for p in reader.label_paths(0) if p.suffix == ".png"), None)
        for path in filter(None, (png, reader.photo_path(0))):
            whole = path.read_bytes()
            _break(path, way)
            found = inspect([Place(root, splits[0], kind.kind, Options())], duplicates=False)
            assert found.readable == 1, (way, path)
            assert any(path.stem[:8] in p.path + p.reason for p in found.problems), (
                way, path, found.problems,
            )  # fmt: skip
            assert found.errors
            if path.is_dir():
                path.rmdir()
            path.write_bytes(whole)


def _break(path: Path, way: str) -> None:
    whole = path.read_bytes()
    if way == "cut":
        path.write_bytes(whole[: len(whole) // 3])
    elif way == "noise":
        path.write_bytes(np.random.default_rng(0).bytes(300))
    elif way == "empty":
        path.write_bytes(b"")
    elif way == "another size":
        with Image.open(path) as image:
            kind, small = image.format, image.resize((13, 9), 0)
        small.save(path, kind)
    elif way == "another kind":
        path.write_bytes(b"GIF89a, or so" if path.suffix != ".png" else b"\xff\xd8\xff\xe0")
    else:
        path.unlink()
        if way == "a folder":
            path.mkdir()


def test_several_processes_find_and_write_the_same(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path / "in")
    place = Place(tmp_path / "in", "val", "cityscapes", Options())
    one, two = (inspect([place], processes=n).to_json() for n in (1, 2))
    assert one == two
    for n in (1, 2):
        convert(place, "coco-panoptic", tmp_path / f"out{n}", processes=n)
    files = [sorted(p.relative_to(r) for p in r.rglob("*")) for r in
             (tmp_path / "out1", tmp_path / "out2")]  # fmt: skip
    assert files[0] == files[1]
    text = [(tmp_path / f"out{n}/annotations/val.json").read_text("utf-8") for n in (1, 2)]
    assert text[0] == text[1]


def test_leaks_and_copies_are_found(tmp_path: Path) -> None:
    toy.roboflow(tmp_path)
    rng = np.random.default_rng(0)
    smooth = np.asarray(
        Image.fromarray(rng.integers(0, 255, (6, 9, 3), np.uint8)).resize((120, 80), 3)
    )
    for split, size in (("train", (120, 80)), ("valid", (96, 64))):
        data = toy.instances_json(0)
        data["images"][0].update(width=size[0], height=size[1])
        data["annotations"] = [a for a in data["annotations"] if a["image_id"] == 1]
        data["annotations"].append(dict(data["annotations"][0], image_id=0, id=50))
        toy.write_json(tmp_path / split / "_annotations.coco.json", data)
        Image.fromarray(smooth).resize(size).save(tmp_path / split / "photo_0.jpg", quality=80)
    code, said = run("check", tmp_path)
    assert code == 1
    assert re.search(r"leak .*valid/photo_1\.jpg: it holds the same bytes as .*train/photo_1", said)
    assert re.search(r"near leak .*valid/photo_0\.jpg: it looks like .*train/photo_0", said)
    assert "leak" not in run("check", tmp_path, "--no-duplicates")[1]
    for split in ("train", "valid"):  # an augmented copy: Roboflow says what it was made of
        path = tmp_path / split / "_annotations.coco.json"
        data = json.loads(path.read_text("utf-8"))
        data["images"][0]["extra"] = {"name": "holiday.jpg"}
        toy.write_json(path, data)
    assert re.search(
        r"leak .*photo_0\.jpg: it was made of 'holiday.jpg'", run("check", tmp_path)[1]
    )


def test_near_pairs_are_all_found() -> None:
    rng = np.random.default_rng(5)
    base = [int(v) for v in rng.integers(0, 2**63, 300)]
    copies = [(i, base[i] ^ sum(1 << int(b) for b in rng.choice(64, 4, False))) for i in range(50)]
    hashes: list[int | None] = [*base, None, *(h for _, h in copies)]
    found = set(near_pairs(hashes))
    assert found == {(i, 301 + n) for n, (i, _) in enumerate(copies)}


def test_a_photo_that_exif_turns_has_the_hash_of_its_upright_copy(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (5, 8, 3), np.uint8)).resize((160, 100), 3)
    image.save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "b.png", exif=exif)
    a, b = photo_hash(tmp_path / "a.png"), photo_hash(tmp_path / "b.png")
    assert a is not None
    assert b is not None
    assert a.size_wh == b.size_wh
    assert a.difference is not None
    assert b.difference is not None
    assert (a.difference ^ b.difference).bit_count() <= NEAR


def test_a_run_goes_on_from_its_journal(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path / "in")
    place = Place(tmp_path / "in", "val", "cityscapes", Options())
    first = inspect([place], journal=tmp_path / "done")
    for path in tmp_path.rglob("*instanceIds.png"):
        path.unlink()
        path.write_bytes(b"")
    assert inspect([place], journal=tmp_path / "done").to_json() == first.to_json()
    journal = tmp_path / "done.val"
    journal.write_bytes(journal.read_bytes()[:-9])  # an interrupt in the middle of a line
    with Journal(journal) as cut:
        assert len(cut) == 0


def test_info_counts_what_is_there(tmp_path: Path) -> None:
    toy.cityscapes(tmp_path / "in")
    code, said = run("info", tmp_path / "in", "--json", tmp_path / "info.json")
    assert code == 0
    assert "Cityscapes: 2 photos (val 2)" in said
    data = json.loads((tmp_path / "info.json").read_text("utf-8"))
    grid = toy.letters(0)
    assert data["classes"]["road"]["pixels"] == 2 * int((grid == "r").sum())
    assert data["classes"]["car"]["instances"] == 4
    assert data["classes"]["car"]["crowds"] == 2
    assert data["void_pixels"] == 2 * int((grid == ".").sum())
    assert data["sizes"] == [[12, 8, 2]]
    with pytest.raises(Exception, match="no split 'train'"):
        run("info", tmp_path / "in", "--split", "train")


# ------------------------------------------------------------------------------- drawing, splitting


def test_labels_are_drawn_where_they_are(tmp_path: Path) -> None:
    toy.label_pngs(tmp_path / "in")
    code, _ = run("view", tmp_path / "in", "--out", tmp_path / "sheet.png")
    assert code == 0
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    assert sheet.shape[1] == 512
    code, _ = run("view", tmp_path / "in", "--out", tmp_path / "page")
    assert code == 0
    html = (tmp_path / "page/index.html").read_text("utf-8")
    assert "photo_0.jpg" in html
    assert "http" not in html.replace("http-equiv", "")
    assert len(list((tmp_path / "page/pictures").iterdir())) == 4
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(Exception, match="holds other files"):
        run("view", tmp_path / "in", "--out", tmp_path / "mine")


def test_parts_have_their_share_of_every_class() -> None:
    rng = np.random.default_rng(3)
    chances = [0.9, 0.5, 0.2, 0.05, 0.02]
    classes = [[c for c, p in enumerate(chances) if rng.random() < p] for _ in range(1000)]
    parts = stratified(classes, list(range(1000)), {"train": 0.8, "val": 0.2})
    assert abs(parts.count("val") - 200) <= 5
    for c in range(5):
        in_val = sum(p == "val" for p, photo in zip(parts, classes, strict=True) if c in photo)
        total = sum(c in photo for photo in classes)
        assert abs(in_val - 0.2 * total) <= max(1.0, 0.02 * total), (c, in_val, total)
    assert parts == stratified(classes, list(range(1000)), {"train": 0.8, "val": 0.2})
    assert parts != stratified(classes, list(range(1000)), {"train": 0.8, "val": 0.2}, seed=1)


def test_what_belongs_together_stays_together() -> None:
    units = joined(
        ["a", "b", "a", "", ""], ["1", "2", "3", "2", "4"], [None, 2**40 - 1, 99, None, 2**40 - 2]
    )
    assert units == [0, 1, 0, 1, 1]  # by group; by bytes; by looks


def test_a_json_is_split(tmp_path: Path) -> None:
    toy.coco_joined(tmp_path)
    code, said = run("split", tmp_path, "--parts", "a=1,b=1")
    assert code == 0, said
    scenes = []
    for part in "ab":
        reader = open_dataset(tmp_path, f"val2017_{part}")
        assert len(reader) == 1
        scenes.append(described(reader, 0))
    whole = open_dataset(tmp_path, "val2017")
    assert all(described(whole, i) in scenes for i in (0, 1))
    with pytest.raises(Exception, match="is there already"):
        run("split", tmp_path, "--split", "val2017", "--parts", "a=1,b=1")
    with pytest.raises(Exception, match="expected names and shares"):
        run("split", tmp_path, "--split", "val2017", "--parts", "a")
    toy.voc(tmp_path / "voc")
    with pytest.raises(Exception, match="convert it first"):
        run("split", tmp_path / "voc")


def test_classes_are_listed_and_mapped(tmp_path: Path) -> None:
    code, said = run("classes", "cityscapes", "--to", "camera", "--json", tmp_path / "m.json")
    assert code == 0
    assert re.search(r"rider[\s\S]*?person[\s\S]*?thing", said)
    assert json.loads((tmp_path / "m.json").read_text("utf-8"))["thing"]["person"] == [
        "person", "rider",
    ]  # fmt: skip
    assert "26" in run("classes", "camera")[1]
    with pytest.raises(Exception, match="did you mean 'cityscapes'"):
        run("classes", "cityscape")
