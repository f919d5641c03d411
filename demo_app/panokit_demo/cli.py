"""The command ``panokit demo``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from panokit._files import write_json
from panokit.cli.console import note, say, tracked
from panokit.cli.options import DO, INPUT, OUTPUT, output_file
from panokit.errors import MissingExtraError, UsageError
from panokit.photo import PHOTO_SUFFIXES, photo_paths
from panokit.samples import sample_photos
from panokit_demo.gallery import GalleryResult, write_gallery
from panokit_demo.names import path_below, proxy_address, public_name

__all__ = ["demo"]

SAMPLES = Path("samples")


Paths = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="[PHOTOS… OUT]",
        help="With --gallery: photos, folders of photos, or the word samples for the installed "
        "sample photos (./samples is a folder); then the page (.html) or the folder to write "
        "it in.",
    ),
]
Bundles = Annotated[
    list[Path] | None,
    typer.Option(
        "--bundle",
        help="Bundle folder. Repeatable. Default: the bundle that comes with Panokit.",
        rich_help_panel=INPUT,
    ),
]
FirstArtifact = Annotated[
    str | None,
    typer.Option(
        "--artifact", help="Artifact to begin with, e.g. tflite-int8.", rich_help_panel=INPUT
    ),
]
Port = Annotated[
    int,
    typer.Option("--port", help="Port of the server. 0 takes a free one.", rich_help_panel=DO),
]
Host = Annotated[
    str,
    typer.Option(
        "--host",
        help="Address to listen at. The default is this computer alone; 0.0.0.0 lets phones "
        "in the same network in, and everybody else there.",
        rich_help_panel=DO,
    ),
]
AllowHost = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        help="Name that the server answers to as well, such as demo.example.org, where a proxy or "
        "a name server gives it one. Repeatable.",
        rich_help_panel=DO,
    ),
]
RootPath = Annotated[
    str,
    typer.Option(
        "--root-path",
        help="Path that a proxy serves it below, such as /seg.",
        rich_help_panel=DO,
    ),
]
TrustProxy = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-proxy",
        help="Address of a proxy whose word on who asks (X-Forwarded-For) is taken, so that its "
        "users are told apart. Repeatable. Default: none.",
        rich_help_panel=DO,
    ),
]
OpenBrowser = Annotated[
    bool,
    typer.Option(
        "--browser/--no-browser", help="Open the page in the browser.", rich_help_panel=DO
    ),
]
InstallLitertjs = Annotated[
    bool,
    typer.Option(
        "--install-litertjs",
        help="Install LiteRT.js with npm, for runs in the browser, and end.",
        rich_help_panel=DO,
    ),
]


def demo(
    paths: Paths = None,
    gallery: Annotated[
        bool,
        typer.Option(
            "--gallery",
            help="Write one self-contained HTML page about photos, and start no server.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    bundle: Bundles = None,
    artifact: FirstArtifact = None,
    port: Port = 8008,
    host: Host = "127.0.0.1",
    allow_host: AllowHost = None,
    root_path: RootPath = "",
    trust_proxy: TrustProxy = None,
    browser: OpenBrowser = True,
    install_litertjs: InstallLitertjs = False,
    json: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="With --gallery: write the results as JSON.",
            callback=output_file,
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Show what the network sees: a page to tap, edit and compare in, or a gallery.

    Example: panokit demo
    Example: panokit demo --gallery samples gallery.html
    """
    if install_litertjs:
        _install_litertjs()
    elif gallery:
        _gallery(paths or [], bundle[0] if bundle else None, artifact, json)
    elif paths or json:
        got = " ".join(map(str, paths or ())) or "--json"
        raise UsageError(f"Photos and --json need --gallery, but it is missing beside {got}.")
    else:
        names = frozenset(map(public_name, allow_host or ()))
        proxies = tuple(map(proxy_address, trust_proxy or ()))
        place = Place(host, port, names, path_below(root_path), proxies)
        _serve(bundle or [], artifact, place, browser)


@dataclass(frozen=True)
class Place:
    """Where the server listens, the names and the path it is reached under, and the proxies whose
    word is taken."""

    host: str
    port: int
    names: frozenset[str] = frozenset()
    root: str = ""
    proxies: tuple[str, ...] = ()


def _serve(bundles: Sequence[Path], artifact: str | None, place: Place, browser: bool) -> None:
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise MissingExtraError("`panokit demo`", "demo") from None
    from panokit_demo.litertjs import find_litertjs, missing_sentence
    from panokit_demo.server import LOOPBACK, create_app, serve

    if place.host not in LOOPBACK:
        note(f"Everybody who reaches {place.host} can use this server.", style="yellow")
    if find_litertjs() is None:
        note(f"This device: {missing_sentence()}")
    app = create_app(
        tuple(bundles) or (None,), artifact, hosts=LOOPBACK | {place.host.lower()},
        public=place.names, root=place.root,
    )  # fmt: skip

    def announce(url: str) -> None:
        say(f"Panokit demo at {url} (Ctrl-C ends it)")

    serve(app, place.host, place.port, announce=announce, browser=browser, proxies=place.proxies)


def _install_litertjs() -> None:
    from panokit_demo.litertjs import install_litertjs

    say(f"LiteRT.js is in {install_litertjs()}")


def _gallery(
    paths: Sequence[Path], bundle: Path | None, artifact: str | None, json: Path | None
) -> None:
    from panokit.segmenter import Segmenter

    photos, out = _photos_and_out(paths)
    result = write_gallery(photos, out, Segmenter.open(bundle, artifact), _with_bar)
    if json:
        write_json(json, result.to_json())
    _report(result)


def _photos_and_out(paths: Sequence[Path]) -> tuple[list[Path], Path]:
    """Split the arguments, and expand folders and the word ``samples``."""
    if len(paths) < 2:
        got = " ".join(map(str, paths)) or "nothing"
        raise UsageError(
            f"--gallery got {got}; expected photos, and last the page or folder to write."
        )
    out = paths[-1]
    if out.suffix.lower() in PHOTO_SUFFIXES:
        raise UsageError(
            f"The last argument of --gallery is {str(out)!r}; expected the page or folder to write."
        )
    named: list[Path] = []
    for path in paths[:-1]:
        named += sample_photos().values() if path == SAMPLES else [path]
    return list(photo_paths(named).values()), out


def _with_bar(photos: Sequence[Path]) -> Iterable[Path]:
    return tracked(photos, "gallery")


def _report(result: GalleryResult) -> None:
    """Say where the page is; bad input among the photos makes the exit code 2."""
    for entry in result.failures:
        note(entry.error, label="skipped", style="red")
    good = len(result.entries) - len(result.failures)
    say(f"{good} {'photo' if good == 1 else 'photos'} in {result.page}")
    if result.failures:
        raise typer.Exit(2)
