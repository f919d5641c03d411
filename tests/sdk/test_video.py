"""Video: steady maps, steady ids, files with their sound, hostile files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from panokit.cli.shell import app
from panokit.errors import ArgumentError, PhotoError
from panokit.preprocessing import letterbox
from panokit.segmenter import Segmenter
from panokit.video import MapSmoother, MatteSmoother, VideoSegmenter, changed_share

H, W = 64, 96


def noisy(picture: NDArray[Any], rng: np.random.Generator, sigma: float = 3) -> NDArray[np.uint8]:
    return np.clip(picture + rng.normal(0, sigma, picture.shape), 0, 255).astype(np.uint8)


def test_labels_that_waver_hold_still_and_those_that_move_do_not() -> None:
    rng = np.random.default_rng(0)
    picture = np.full((H, W, 3), 100.0)
    smoother = MapSmoother()
    labels = np.zeros((H, W), np.int32)
    labels[:, 40:] = 1
    previous = smoother.update(labels, noisy(picture, rng))
    changed = 0
    for t in range(50):
        wavering = labels.copy()
        wavering[:, 38:42] = rng.integers(0, 2, (H, 4))  # a border that cannot decide
        now = smoother.update(wavering, noisy(picture, rng))
        changed += int((now != previous).sum()) if t >= 10 else 0
        previous = now
    assert changed / 40 / labels.size < 0.001
    # A lasting change comes through, within some frames.
    for _ in range(12):
        previous = smoother.update(1 - labels, noisy(picture, rng))
    assert np.array_equal(previous, 1 - labels)
    # Where something moves a frame's own map counts at once.
    moved = picture.copy()
    moved[20:40, 10:30] = 220
    box = (1 - labels).copy()
    box[20:40, 10:30] = 7
    assert np.array_equal(smoother.update(box, noisy(moved, rng)), box)


def test_mattes_hold_still_where_nothing_moves_and_follow_what_does() -> None:
    rng = np.random.default_rng(0)
    smoother = MatteSmoother()
    transform = letterbox((2 * W, 2 * H), (W, H))
    picture = np.full((H, W, 3), 100.0)
    y, x = np.mgrid[: 2 * H, : 2 * W]
    truth = np.clip((60 - np.hypot(y - H, x - W)) / 8, 0, 1).astype(np.float32)
    soft = (truth > 0) & (truth < 1)

    def wavering() -> NDArray[np.float32]:
        return np.clip(truth + soft * rng.normal(0, 0.1, truth.shape), 0, 1).astype(np.float32)

    steps, mattes = [], []
    for _ in range(40):
        smoother.begin(noisy(picture, rng), transform)
        given = wavering()
        mattes.append(smoother.matte([3], given))
        steps.append(np.abs(given - truth)[soft].mean())
    held = np.mean([np.abs(b - a)[soft].mean() for a, b in pairwise(mattes[10:])])
    raw = np.mean([np.abs(wavering() - wavering())[soft].mean() for _ in range(20)])
    assert held < 0.3 * raw
    assert np.abs(mattes[-1] - truth)[soft].mean() < 0.6 * np.mean(steps)
    assert (mattes[-1][truth == 0] == 0).all()
    # A box moves: there the frame's own matte counts, elsewhere the old one holds.
    moved = picture.copy()
    moved[8:24, 8:24] = 220
    new = np.zeros_like(truth)
    new[16:48, 16:48] = 1
    smoother.begin(noisy(moved, rng), transform)
    got = smoother.matte([3], new)
    assert np.array_equal(got[20:44, 20:44], new[20:44, 20:44])
    assert got[H, W] == pytest.approx(0.75, abs=0.01)
    # Another object's matte is its own, and what was not asked for is forgotten.
    assert np.array_equal(smoother.matte([4], truth), truth)
    smoother.begin(noisy(moved, rng), transform)
    smoother.begin(noisy(moved, rng), transform)
    assert np.array_equal(smoother.matte([3], truth), truth)
    with pytest.raises(ArgumentError, match="blend is 0; expected a number above 0, up to 1"):
        MatteSmoother(0)


def test_a_cut_and_another_size_begin_anew() -> None:
    rng = np.random.default_rng(0)
    smoother = MapSmoother()
    zeros, ones = np.zeros((H, W), np.int32), np.ones((H, W), np.int32)
    for _ in range(9):
        smoother.update(zeros, noisy(np.full((H, W, 3), 40.0), rng))
    assert (smoother.update(ones, noisy(np.full((H, W, 3), 200.0), rng)) == 1).all()
    small = np.full((16, 16), 3, np.int32)
    assert (smoother.update(small, np.zeros((16, 16, 3), np.uint8)) == 3).all()
    off = MapSmoother(0)
    off.update(zeros, np.zeros((H, W, 3), np.uint8))
    assert (off.update(ones, np.zeros((H, W, 3), np.uint8)) == 1).all()
    with pytest.raises(ArgumentError, match="hold"):
        MapSmoother(-1)


def test_a_still_scene_does_not_flicker() -> None:
    """Sensor noise of 3 of 255 on a real photo: once settled, at most 0.1 % of the pixels change a
    frame, but for one in which an object appears that the network is in two minds about."""
    data = pytest.importorskip("skimage.data")
    segmenter = Segmenter.open()
    shares: dict[int, list[float]] = {}
    for hold in (0, 8):
        rng = np.random.default_rng(0)
        frames = VideoSegmenter(segmenter, hold=hold)
        results = [frames.update(noisy(data.astronaut().astype(float), rng)) for _ in range(25)]
        shares[hold] = sorted(changed_share(a, b) for a, b in pairwise(results[8:]))
    assert shares[8][-2] <= 0.001 < shares[0][0]


def test_ids_are_steady_and_results_are_whole() -> None:
    data = pytest.importorskip("skimage.data")
    picture = data.astronaut()
    frames = VideoSegmenter(Segmenter.open())
    seen = []
    for t in range(8):
        result = frames.update(np.ascontiguousarray(picture[:, 6 * t : 400 + 6 * t]))
        assert {s.id for s in result} == set(np.unique(result.id_map).tolist()) - {0}
        for s in result:
            assert s.area == int((result.id_map == s.id).sum())
        largest = max(result.find("person"), key=lambda s: s.area)
        seen.append(largest.id)
    assert len(set(seen)) == 1
    assert frames.totals["person"] >= 1


def test_an_object_that_was_found_may_be_a_little_less_sure() -> None:
    data = pytest.importorskip("skimage.data")
    shipped = Segmenter.open()
    pictures = data.astronaut(), data.coffee(), data.chelsea()
    results = [shipped.segment(p) for p in pictures]
    found = [(s.score, n, s) for n, r in enumerate(results) for s in r if s.is_thing]
    score, number, thing = min(found, key=lambda f: f[0])
    mask = results[number].id_map == thing.id

    def wanting(share: float) -> Segmenter:
        """One that takes no thing of less than so much of its score."""
        manifest = shipped.bundle.manifest
        settings = replace(manifest.center_offset, min_thing_score=min(1.0, share * score))
        bundle = replace(shipped.bundle, manifest=replace(manifest, postprocessing=settings))
        return Segmenter(bundle, shipped.artifact, shipped.runtime)

    def seen(frames: VideoSegmenter, share: float) -> list[int]:
        frames.segmenter = wanting(share)
        result = frames.update(pictures[number])
        assert all((result.id_map == s.id).any() for s in result)
        same = [s.id for s in result.find(thing.category.name)]
        return [i for i in same if (mask & (result.id_map == i)).sum() > thing.area / 2]

    frames = VideoSegmenter(shipped, hold=0)
    (track,) = seen(frames, 0.95)
    assert [seen(frames, s) for s in (1.1, 1.3, 1.1, 1.4, 1.1)] == 3 * [[track]] + [[], [track]]
    frames = VideoSegmenter(shipped, hold=0)
    assert [seen(frames, s) for s in (1.1, 1.1)] == [[], []]


# -------------------------------------------------------------------------------------------- files


def make(
    path: Path, frames: list[NDArray[np.uint8]], sound: str | None = "aac", rate: int = 25
) -> Path:
    """A video of frames, with a tone."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height = frames[0].shape[1], frames[0].shape[0]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream(sound, rate=48000) if sound else None
        for t, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts, frame.time_base = t, Fraction(1, rate)
            container.mux(video.encode(frame))
        if audio is not None:
            for t in range(len(frames) * 48000 // rate // 1024):
                tone = np.sin(2 * np.pi * 440 * (np.arange(1024) + 1024 * t) / 48000)
                wave = (0.2 * tone).astype(np.float32)[None]
                piece = av.AudioFrame.from_ndarray(wave, "fltp", layout="mono")
                piece.sample_rate, piece.pts = 48000, 1024 * t
                container.mux(audio.encode(piece))
            container.mux(audio.encode(None))
        container.mux(video.encode(None))
    return path


def pictures(count: int, size: tuple[int, int] = (W, H)) -> list[NDArray[np.uint8]]:
    out = []
    for t in range(count):
        rgb = np.full((size[1], size[0], 3), (40, 90, 160), np.uint8)
        rgb[10:30, 2 * t % (size[0] - 20) : 2 * t % (size[0] - 20) + 20] = (230, 60, 40)
        out.append(rgb)
    return out


def inverted(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return 255 - rgb


@pytest.mark.parametrize("sound", ["aac", "flac", None])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_frames_are_changed_and_sound_and_times_stay(
    suffix: str, sound: str | None, tmp_path: Path
) -> None:
    av = pytest.importorskip("av")
    from panokit.video_file import frames_of, transcode

    source = make(tmp_path / "in.mkv", pictures(30), sound)
    out = tmp_path / f"out{suffix}"
    done = transcode(source, out, inverted)
    assert (done.frames, done.size_wh, done.damaged) == (30, (W, H), 0)
    pairs = zip(pictures(30), frames_of(out), strict=True)
    assert max(float(np.abs(255.0 - a - b).mean()) for a, b in pairs) < 12
    with av.open(str(source)) as one, av.open(str(out)) as two:
        times = [[float(f.pts * f.time_base) for f in c.decode(video=0)] for c in (one, two)]
        assert np.allclose(times[0], times[1], atol=0.002)
    if sound is None:
        assert done.sound == ""
        return
    with av.open(str(source)) as one, av.open(str(out)) as two:
        waves = [first_channel(c) for c in (one, two)]
    length = min(map(len, waves))
    assert abs(len(waves[0]) - len(waves[1])) <= 2048
    heard = [w[:length] / max(1e-9, np.abs(w[:length]).max()) for w in waves]
    assert np.corrcoef(heard[0][2000:-2000], heard[1][2000:-2000])[0, 1] > 0.9  # in step


def first_channel(container: Any) -> NDArray[np.float64]:
    """The sound of a file, one channel."""
    parts = []
    for frame in container.decode(audio=0):
        values = frame.to_ndarray().astype(np.float64)
        packed = values.shape[0] == 1
        parts.append(values[0][:: len(frame.layout.channels)] if packed else values[0])
    return np.concatenate(parts)


def test_memory_is_flat_over_a_thousand_frames(tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", pictures(60))
    long = make(tmp_path / "long.mp4", pictures(1000))
    code = (
        "import resource, sys\nfrom pathlib import Path\n"
        "from panokit.video_file import transcode\n"
        "transcode(Path(sys.argv[1]), Path(sys.argv[2]), lambda rgb: rgb)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for path in (source, long):
        words = [sys.executable, "-c", code, str(path), str(tmp_path / "o.mp4")]
        peaks.append(int(subprocess.run(words, capture_output=True, text=True, check=True).stdout))
    assert peaks[1] < peaks[0] + 20_000  # kilobytes


def test_hostile_files_end_in_a_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from panokit.video_file import transcode

    good = make(tmp_path / "good.mp4", pictures(40)).read_bytes()
    cases = {
        "missing.mp4": None, "empty.mp4": b"", "noise.mp4": np.random.default_rng(0).bytes(5000),
        "cut.mp4": good[: len(good) // 2], "text.mp4": b"not a video at all\n" * 50,
    }  # fmt: skip
    for name, content in cases.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PhotoError, match=name):
            transcode(path, tmp_path / "out.mp4", inverted)
        assert not (tmp_path / "out.mp4").exists()
    tone = tmp_path / "tone.mp4"
    _only_sound(tone)
    with pytest.raises(PhotoError, match="no video stream"):
        transcode(tone, tmp_path / "out.mp4", inverted)
    tiny = make(tmp_path / "tiny.mkv", pictures(3, (24, 40)), None)
    assert transcode(tiny, tmp_path / "ok.mp4", inverted).frames == 3
    with pytest.raises(ArgumentError, match="ending in"):
        transcode(tiny, tmp_path / "out.avi", inverted)
    rng = np.random.default_rng(1)
    for _ in range(30):  # damaged anywhere: what can be read is written, or a sentence says why
        data = bytearray(good)
        for at in rng.integers(0, len(data), 20):
            data[at] = int(rng.integers(0, 256))
        path = tmp_path / "damaged.mp4"
        path.write_bytes(data)
        try:
            assert transcode(path, tmp_path / "d.mp4", inverted).frames >= 1
        except PhotoError:
            continue


def _only_sound(path: Path) -> None:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=48000)
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", layout="mono")
        piece.sample_rate, piece.pts = 48000, 0
        container.mux(audio.encode(piece))
        container.mux(audio.encode(None))


def test_frames_of_another_size_are_scaled_to_the_first(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from panokit.video_file import frames_of

    first = make(tmp_path / "a.ts", pictures(6), None)
    second = make(tmp_path / "b.ts", pictures(6, (128, 96)), None)
    joined = tmp_path / "c.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    shapes = {f.shape for f in frames_of(joined)}
    assert shapes == {(H, W, 3)}


def test_the_command_does_an_effect_on_every_frame(tmp_path: Path) -> None:
    data = pytest.importorskip("skimage.data")
    av = pytest.importorskip("av")
    picture = data.astronaut()[:, :400]
    source = make(tmp_path / "in.mp4", [np.ascontiguousarray(picture)] * 4)
    out, told = tmp_path / "out.mp4", tmp_path / "told.json"
    words = ["video", str(source), "--out", str(out), "--json", str(told)]
    run = CliRunner().invoke(app, [*words, "--effect", "blur"])
    assert run.exit_code == 0, run.output
    report = json.loads(told.read_text("utf-8"))
    assert (report["frames"], report["applied"], report["sound"]) == (4, 4, "aac")
    with av.open(str(out)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert frame.shape == (512, 400, 3)
    run = CliRunner().invoke(app, [*words, "--effect", "overlay"])
    assert run.exit_code == 0, run.output
    pick = ["--effect", "pixelate", "--segment", "999"]
    run = CliRunner().invoke(app, [*words, *pick])
    assert run.exit_code == 0, run.output
    assert json.loads(told.read_text("utf-8"))["applied"] == 0
    for wrong in (["--effect", "explode"], ["--effect", "recolor", "--class", "dragon"]):
        run = CliRunner().invoke(app, [*words, *wrong])
        assert isinstance(run.exception, ArgumentError), wrong
    run = CliRunner().invoke(app, ["video", str(source), "--out", str(source)])
    assert "--overwrite" in str(run.exception)
