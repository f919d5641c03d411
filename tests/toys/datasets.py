"""Data sets of two photos, written in the layouts and encodings of their makers from the published
facts: nothing of Panokit writes them.

The first photo holds the scene below; the second is its mirror image.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# s sky, r road, p q persons, c d cars, g cars that nobody separated, . nothing
SCENE = """
ssssssssssss
sssssssssss.
rrppqqrrrr..
rrppqqccrrrr
rrppqqccdddr
rrrrrrrrdddr
rgggrrrrrrrr
rgggrrrrrrrr
"""
THINGS = {"p": "person", "q": "person", "c": "car", "d": "car"}
STUFF = {"s": "sky", "r": "road"}
GROUP = {"g": "car"}


def letters(index: int = 0) -> NDArray[np.str_]:
    """The scene as an array of letters ``[8,12]``."""
    grid = np.array([list(row) for row in SCENE.split()])
    return grid if index == 0 else np.ascontiguousarray(grid[:, ::-1])


def coded(values: dict[str, int], index: int, other: int = 0) -> NDArray[np.int64]:
    """The scene with a number for each letter."""
    grid = letters(index)
    out = np.full(grid.shape, other, np.int64)
    for letter, value in values.items():
        out[grid == letter] = value
    return out


def photo(path: Path, index: int) -> None:
    """A photo of the scene's size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = {"s": 0x4080F0, "r": 0x707070, "p": 0xE04020, "q": 0xB03060, "c": 0x20A040}
    colors |= {"d": 0x106020, "g": 0x30C0A0, ".": 0x000000}
    packed = coded(colors, index)
    rgb = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


def grey(path: Path, values: NDArray[np.int64], bits: int = 8, palette: Any = None) -> None:
    """A PNG of grey values, or of places in a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint16 if bits == 16 else np.uint8))
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def rgb(path: Path, *channels: NDArray[np.int64]) -> None:
    """A PNG of three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(path)


def ids_png(path: Path, ids: NDArray[np.int64]) -> None:
    """COCO's PNG of ids."""
    rgb(path, ids % 256, ids // 256 % 256, ids // 65536)


def write_json(path: Path, data: Any, bom: bool = False) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8-sig" if bom else "utf-8")


# ------------------------------------------------------------------------------- one set a function


def cityscapes(root: Path) -> None:
    for i in (0, 1):
        stem = f"aachen_00000{i}_000019"
        photo(root / "leftImg8bit/val/aachen" / f"{stem}_leftImg8bit.png", i)
        values = {"s": 23, "r": 7, "p": 24000, "q": 24001, "c": 26000, "d": 26001, "g": 26}
        grey(root / "gtFine/val/aachen" / f"{stem}_gtFine_instanceIds.png", coded(values, i), 16)
        labels = {k: v if v < 1000 else v // 1000 for k, v in values.items()}
        grey(root / "gtFine/val/aachen" / f"{stem}_gtFine_labelIds.png", coded(labels, i))


def cityscapes_panoptic(root: Path, train_ids: bool = False) -> None:
    ids = {"s": 23, "r": 7, "p": 24000, "q": 24001, "c": 26000, "d": 26001, "g": 26}
    of = {23: 10, 7: 0, 24: 11, 26: 13} if train_ids else {23: 23, 7: 7, 24: 24, 26: 26}
    names = {23: "sky", 7: "road", 24: "person", 26: "car"}
    images, annotations = [], []
    folder = "cityscapes_panoptic_val" + ("_trainId" if train_ids else "")
    for i in (0, 1):
        key = f"aachen_00000{i}_000019"
        photo(root / "leftImg8bit/val/aachen" / f"{key}_leftImg8bit.png", i)
        png = f"{key}_gtFine_panoptic.png"
        grid = coded(ids, i)
        ids_png(root / "gtFine/cityscapes_panoptic_val" / png, grid)
        infos = []
        for n in ids.values():
            label = n if n < 1000 else n // 1000
            crowd = int(n < 1000 and label in (24, 26))
            infos.append({"id": n, "category_id": of[label], "area": int((grid == n).sum()),
                          "bbox": box(grid == n), "iscrowd": crowd})  # fmt: skip
        images.append({"id": key, "width": 12, "height": 8,
                       "file_name": f"{key}_gtFine_leftImg8bit.png"})  # fmt: skip
        annotations.append({"image_id": key, "file_name": png, "segments_info": infos})
    categories = [
        {"id": of[n], "name": names[n], "isthing": int(n in (24, 26)), "color": [n, n, n]}
        for n in names
    ]
    data = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / "gtFine" / f"{folder}.json", data)


def box(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width, height."""
    ys, xs = np.nonzero(mask)
    if not len(xs):
        return [0, 0, 0, 0]
    return [int(xs.min()), int(ys.min()), int(np.ptp(xs)) + 1, int(np.ptp(ys)) + 1]


def kitti_step(root: Path, suffix: str = ".png", classes: dict[str, int] | None = None) -> None:
    of = classes or {"s": 10, "r": 0, "p": 11, "q": 11, "c": 13, "d": 13, "g": 13}
    number = {"p": 1, "q": 300, "c": 7, "d": 2}
    for i in (0, 1):
        photo(root / "images/val/0002" / f"00000{i}{suffix}", i)
        instance = coded(number, i)
        rgb(root / "panoptic_maps/val/0002" / f"00000{i}.png",
            coded(of, i, 255), instance // 256, instance % 256)  # fmt: skip


def motchallenge_step(root: Path) -> None:
    # sidewalk 0, vegetation 2, sky 3, person 4: the road is sidewalk there
    kitti_step(root, ".jpg", {"s": 3, "r": 0, "p": 4, "q": 4, "g": 4})


def kitti_2d(root: Path) -> None:
    for i in (0, 1):
        photo(root / f"training/image_2/00000{i}_10.png", i)
        label = {"s": 23, "r": 7, "p": 24, "q": 24, "c": 26, "d": 26, "g": 26}
        number = {"p": 1, "q": 2, "c": 1, "d": 2}
        grey(root / f"training/semantic/00000{i}_10.png", coded(label, i))
        values = 256 * coded(label, i) + coded(number, i)
        grey(root / f"training/instance/00000{i}_10.png", values, 16)


def mapillary(root: Path, version: str, versioned: bool = True) -> None:
    listed = {
        "v1.2": {"s": 27, "r": 13, "p": 19, "q": 19, "c": 55, "d": 55},
        "v2.0": {"s": 61, "r": 21, "p": 30, "q": 30, "c": 108, "d": 108, "g": 115},
    }[version]
    path = Path(__file__).parents[2] / "datasets/panokit_datasets/class_lists"
    known = json.loads((path / f"mapillary_{version.replace('.', '_')}.json").read_text("utf-8"))
    labels: dict[int, dict[str, Any]] = {}
    for c in [*known["categories"], *known["void"]]:
        place = c["source_id"]
        labels[place] = {
            "name": c.get("full_name", c["name"].lower()), "readable": c["name"],
            "instances": bool(c.get("isthing", 0)), "color": c["color"],
            "evaluate": c in known["categories"] and bool(c.get("evaluate", 1)),
        }  # fmt: skip
    names = {labels[n]["readable"] for n in listed.values()}
    assert {"Sky", "Road", "Person", "Car"} <= names, names
    config = f"config_{version}.json" if versioned else "config.json"
    write_json(root / config, {"labels": [labels[i] for i in range(len(labels))]})
    void = len(labels) - 1
    for i in (0, 1):
        photo(root / f"validation/images/photo_{i}.jpg", i)
        folder = root / "validation" / (version if versioned else "")
        values = 256 * coded(listed, i, void) + coded({"q": 1, "d": 1}, i)
        grey(folder / f"instances/photo_{i}.png", values, 16)


def ade20k(root: Path) -> None:
    for i in (0, 1):
        stem = f"ADE_val_0000000{i + 1}"
        photo(root / f"images/validation/{stem}.jpg", i)
        # sky 3, road 7, person 13, car 21; a thing without instances becomes void
        label = {"s": 3, "r": 7, "p": 13, "q": 13, "c": 21, "d": 21, "g": 21}
        grey(root / f"annotations/validation/{stem}.png", coded(label, i))
        kind, number = coded(ADE_INSTANCE, i), coded({"p": 1, "q": 2, "c": 3, "d": 4}, i)
        rgb(root / f"annotations_instance/validation/{stem}.png", kind, number, 0 * kind)


ADE_INSTANCE = {"p": 4, "q": 4, "c": 9, "d": 9}  # checked against the list in the tests


def ade20k_panoptic(root: Path) -> None:
    of = {"s": 2, "r": 6, "p": 12, "q": 12, "c": 20, "d": 20}
    names = {2: "sky", 6: "road, route", 12: "person", 20: "car", 0: "wall"}
    coco_json(
        root, of, names, {12, 20}, "ade20k_panoptic_val.json", "ade20k_panoptic_val",
        lambda i: f"images/validation/ADE_val_0000000{i + 1}.jpg",
    )  # fmt: skip


def coco_json(
    root: Path,
    of: dict[str, int],
    names: dict[int, str],
    things: set[int],
    file: str,
    folder: str,
    photo_name: Callable[[int], str],
    ids: dict[str, int] | None = None,
) -> None:
    """A COCO panoptic JSON with its PNGs."""
    ids = ids or {letter: 70_000 + 300 * n for n, letter in enumerate(of)}
    images, annotations = [], []
    for i in (0, 1):
        path = root / photo_name(i)
        photo(path, i)
        grid = coded({k: v for k, v in ids.items() if k in of}, i)
        ids_png(root / folder / f"{path.stem}.png", grid)
        infos = [
            {"id": ids[k], "category_id": of[k], "iscrowd": int(k == "g"),
             "area": int((grid == ids[k]).sum()), "bbox": box(grid == ids[k])}
            for k in of
        ]  # fmt: skip
        images.append({"id": 10 + i, "width": 12, "height": 8, "file_name": path.name})
        annotations.append(
            {"image_id": 10 + i, "file_name": f"{path.stem}.png", "segments_info": infos}
        )
    categories = [{"id": n, "name": names[n], "isthing": int(n in things)} for n in names]
    data = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / file, data)


def coco_panoptic(root: Path) -> None:
    of = {"s": 187, "r": 149, "p": 1, "q": 1, "c": 3, "d": 3, "g": 3}
    names = {1: "person", 3: "car", 149: "road", 187: "sky-other-merged"}
    coco_json(root, of, names, {1, 3}, "annotations/panoptic_val2017.json", "panoptic_val2017",
              lambda i: f"val2017/00000000000{i}.jpg")  # fmt: skip


def camera_panoptic(root: Path) -> None:
    from panokit_datasets.classes import camera_taxonomy

    ids = {c.name: c.id for c in camera_taxonomy()}
    of = {"s": ids["sky"], "r": ids["road"], "p": ids["person"], "q": ids["person"]}
    of |= {"c": ids["car"], "d": ids["car"], "g": ids["car"]}
    names = {c.id: c.name for c in camera_taxonomy()}
    things = {c.id for c in camera_taxonomy() if c.is_thing}
    coco_json(root, of, names, things, "annotations/toy_val.json", "panoptic",
              lambda i: f"images/photo_{i}.png")  # fmt: skip


def rectangles(index: int) -> dict[str, list[int]]:
    """Left, top, width, height of each object."""
    return {k: box(letters(index) == k) for k in "pqcdg"}


def polygon(x: int, y: int, w: int, h: int) -> list[float]:
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def instances_json(first: int = 1) -> dict[str, Any]:
    """COCO instances of the scene, the group as run lengths; ids count from ``first``."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    of = {"p": 1, "q": 1, "c": 3, "d": 3, "g": 3}
    for i in (0, 1):
        images.append({"id": i + first, "width": 12, "height": 8, "file_name": f"photo_{i}.jpg"})
        for letter, (x, y, w, h) in rectangles(i).items():
            mask = letters(i) == letter
            entry: dict[str, Any] = {"id": len(annotations) + first, "image_id": i + first}
            entry |= {"category_id": of[letter], "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
            entry["segmentation"] = [polygon(x, y, w, h)]
            if letter == "g":
                flat = np.concatenate([[0], mask.T.ravel(), [2]])
                entry |= {"segmentation": {"size": [8, 12], "counts": runs(flat[1:-1])}}
                entry["iscrowd"] = 1
            annotations.append(entry)
    categories = [
        {"id": 1, "name": "person", "supercategory": "person"},
        {"id": 3, "name": "car", "supercategory": "vehicle"},
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def runs(flat: NDArray[Any]) -> list[int]:
    """Lengths of runs of zeros, ones, …"""
    counts, value, n = [], 0, 0
    for v in flat.tolist():
        if int(v) != value:
            counts.append(n)
            value, n = int(v), 0
        n += 1
    return [*counts, n]


def coco_instances(root: Path) -> None:
    write_json(root / "annotations/instances_val2017.json", instances_json())
    for i in (0, 1):
        photo(root / f"val2017/photo_{i}.jpg", i)


def coco_joined(root: Path, maps: bool = False) -> None:
    coco_instances(root)
    for i in (0, 1):  # sky-other 157, road 149, other 183; thing maps count from 0
        stuff = coded({"s": 157, "r": 149, "p": 183, "q": 183, "c": 183, "d": 183, "g": 183}, i)
        if maps:
            grey(root / f"stuffthingmaps/val2017/photo_{i}.png", np.where(stuff, stuff - 1, 255))
        else:
            grey(root / f"annotations/stuff_val2017_pixelmaps/photo_{i}.png", stuff)


def roboflow(root: Path) -> None:
    data = instances_json(0)
    data["categories"] = [{"id": 0, "name": "cars", "supercategory": "none"}, *data["categories"]]
    for image in data["images"]:
        image["extra"] = {"name": image["file_name"]}
    for split in ("train", "valid"):
        write_json(root / split / "_annotations.coco.json", data)
        for i in (0, 1):
            photo(root / split / f"photo_{i}.jpg", i)


def label_studio(root: Path) -> None:
    data = instances_json(0)
    data["annotations"] = [a for a in data["annotations"] if not a["iscrowd"]]  # no brush strokes
    for c in data["categories"]:
        del c["supercategory"]
    for image in data["images"]:
        image["file_name"] = "images\\" + image["file_name"]
    write_json(root / "result.json", data, bom=True)
    for i in (0, 1):
        photo(root / f"images/photo_{i}.jpg", i)


def label_studio_json(root: Path) -> None:
    tasks = []
    for i in (0, 1):
        photo(root / f"images/photo_{i}.jpg", i)
        results = []
        for letter, (x, y, w, h) in rectangles(i).items():
            if letter == "g":
                continue
            name = "person" if letter in "pq" else "car"
            value: dict[str, Any]
            if letter == "p":
                value = {"format": "rle", "rle": brush(letters(i) == letter), "brushlabels": [name]}
            else:
                corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
                value = {"points": [[100 * a / 12, 100 * b / 8] for a, b in corners]}
                value["polygonlabels"] = [name]
            kind = "brushlabels" if letter == "p" else "polygonlabels"
            results.append({"type": kind, "value": value, "original_width": 12,
                            "original_height": 8, "image_rotation": 0})  # fmt: skip
        data = {"image": f"/data/upload/1/a1b2c3d4-photo_{i}.jpg"}
        tasks.append({"id": i, "data": data, "annotations": [{"result": results}]})
    write_json(root / "label-studio.json", tasks)


def brush(mask: NDArray[np.bool_]) -> list[int]:
    """One literal run of RGBA words, of which only alpha is set."""
    words = np.zeros((*mask.shape, 4), np.uint8)
    words[..., 3] = 255 * mask
    bits = f"{words.size:032b}" + f"{7:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16))
    bits += "0" + "11" + f"{words.size - 1:016b}" + "".join(f"{v:08b}" for v in words.ravel())
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def voc(root: Path) -> None:
    base = root / "VOCdevkit/VOC2012"
    for i in (0, 1):
        photo(base / f"JPEGImages/2007_00000{i}.jpg", i)
        label = coded({"p": 15, "q": 15, "c": 7, "d": 7, "g": 255}, i)
        objects = coded({"p": 1, "q": 2, "c": 3, "d": 4, "g": 255}, i)
        grey(base / f"SegmentationClass/2007_00000{i}.png", label, 8, VOC_PALETTE)
        grey(base / f"SegmentationObject/2007_00000{i}.png", objects, 8, VOC_PALETTE)
    path = base / "ImageSets/Segmentation/val.txt"
    path.parent.mkdir(parents=True)
    path.write_text("2007_000000\n2007_000001\n", encoding="utf-8")


def _voc_palette() -> list[int]:
    colors = []
    for place in range(256):
        r = g = b = 0
        for j in range(8):
            r |= (place >> (3 * j) & 1) << (7 - j)
            g |= (place >> (3 * j + 1) & 1) << (7 - j)
            b |= (place >> (3 * j + 2) & 1) << (7 - j)
        colors += [r, g, b]
    return colors


VOC_PALETTE = _voc_palette()


def cvat_masks(root: Path) -> None:
    text = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nperson:192,128,128::\n"
    root.mkdir(parents=True, exist_ok=True)
    (root / "labelmap.txt").write_text(text + "car:128,128,128::\n", encoding="utf-8")
    for i in (0, 1):
        photo(root / f"JPEGImages/photo_{i}.jpg", i)
        for folder, colors in (
            ("SegmentationClass", {"p": 0xC08080, "q": 0xC08080, "c": 0x808080, "d": 0x808080}),
            ("SegmentationObject", {"p": 0x800000, "q": 0x008000, "c": 0x808000, "d": 0x000080}),
        ):
            packed = coded(colors, i)
            channels = packed >> 16, packed >> 8 & 255, packed & 255
            rgb(root / folder / f"photo_{i}.png", *channels)
    path = root / "ImageSets/Segmentation/default.txt"
    path.parent.mkdir(parents=True)
    path.write_text("photo_0\nphoto_1\n", encoding="utf-8")


def label_pngs(root: Path) -> None:
    layout = {"photos": "photos", "classes": "semantic", "instances": "instance",
              "taxonomy": "classes.json", "void": [255], "first": 0}  # fmt: skip
    write_json(root / "panokit-dataset.json", layout)
    write_json(root / "classes.json", {"things": ["person", "car"], "stuff": ["sky", "road"]})
    for i in (0, 1):
        photo(root / f"photos/val/photo_{i}.jpg", i)
        label = {"p": 0, "q": 0, "c": 1, "d": 1, "g": 1, "s": 2, "r": 3}
        grey(root / f"semantic/val/photo_{i}.png", coded(label, i, 255))
        number = coded({"p": 1, "q": 2, "c": 3, "d": 400}, i)
        grey(root / f"instance/val/photo_{i}.png", number, 16)


def ade20k_full(root: Path) -> None:
    of = {"s": (2420, "sky"), "r": (2131, "road, route"), "p": (1831, "person, individual"),
          "c": (401, "car, auto")}  # fmt: skip
    of |= {"q": of["p"], "d": of["c"]}
    instance = {"s": 5, "r": 10, "p": 15, "q": 20, "c": 25, "d": 30}
    for i in (0, 1):
        folder = root / "images/ADE/validation/urban/street"
        photo(folder / f"ADE_val_{i}.jpg", i)
        label = coded({k: n for k, (n, _) in of.items()}, i)
        rgb(folder / f"ADE_val_{i}_seg.png", label // 256 * 10, label % 256, coded(instance, i))
        objects = [
            {"id": n, "name": name, "name_ndx": number, "raw_name": name, "crop": "0",
             "parts": {"part_level": 0, "ispartof": [], "hasparts": 3}}
            for n, (number, name) in enumerate(of.values())
        ]  # fmt: skip
        data = {"annotation": {"filename": f"ADE_val_{i}.jpg", "object": objects}}
        text = json.dumps(data).replace("individual", "individual \xe9")
        (folder / f"ADE_val_{i}.json").write_bytes(text.encode("latin-1"))
