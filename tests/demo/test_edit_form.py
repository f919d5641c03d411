"""The page's tools for editing, made from what the server says: the modules in Node.js, over a
stand-in for the browser's document that is just enough for them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from panokit.effects import EDIT_KINDS, Edit, Pick

JS = Path(__file__).parents[2] / "demo_app" / "panokit_demo" / "static" / "js"
KINDS = {name: kind.describe() for name, kind in EDIT_KINDS.items()}

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")

DOCUMENT = """
class Node_ {
  constructor(tag) { Object.assign(this, { tag, children: [], dataset: {}, heard: {} }); }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; }
  addEventListener(name, act) { this.heard[name] = act; }
  fire(name) { return this.heard[name]({ target: this }); }
  get inside() { return this.children.flatMap((c) => [c, ...c.inside]); }
  querySelectorAll(tag) { return this.inside.filter((n) => n.tag === tag); }
  get selectedIndex() { return this.children.findIndex((c) => c.selected); }
}
const known = {};
globalThis.document = {
  createElement: (tag) => new Node_(tag),
  getElementById: (id) => (known[id] ??= new Node_(id)),
  addEventListener() {},
};
const kinds = JSON.parse(process.argv[2]);
const out = [];
"""

FORM = """
const { editButtons, words } = await import("JS/edit_form.js");
for (const group of ["portrait", "object", "scene", "toy"]) {
  const pressed = [];
  const nodes = editButtons(kinds, group, (name, kind, settings) => pressed.push([name, settings]));
  const inputs = nodes.flatMap((n) => n.inside).filter((n) => ["input", "select"].includes(n.tag));
  nodes.filter((n) => n.tag === "button").forEach((n) => n.fire("click"));
  out.push({
    shown: nodes.map((n) => (n.tag === "button" ? n.textContent : n.children[0].textContent)),
    inputs: inputs.map((n) => n.type ?? n.tag),
    pressed,
  });
}
const edits = [
  { do: "blur_background", strength: 0.6, pick: {} }, { do: "blur_background" },
  { do: "lift", pick: {} }, { do: "replace_sky" }, { do: "explode" },
];
out.push(edits.map((e) => words(e, kinds, () => "person")));
"""

PANEL = """
const { showEditPanel } = await import("JS/edit_panel.js");
const person = { id: 1, isthing: true, category: "person" };
const state = { info: { edits: kinds }, artifact: "a", selected: 0, edited: null };
state.results = new Map([["a", { byId: new Map([[1, person]]) }]]);
const editor = {
  edits: [], canUndo: true, canRedo: false, live: [],
  set(edits, { first } = {}) { this.edits = edits; this.live.push(first ?? null); panel.update(); },
};
const pickOf = (id) => ({ segment: id });
const select = (id) => { state.selected = id; };
const panel = showEditPanel({ state, editor, pickOf, nameAt: () => "person", select });
const shown = (id) => document.getElementById(id).textContent;
const press = (name) => {
  const boxes = ["object-tools", "scene-tools"].map((id) => document.getElementById(id));
  const nodes = boxes.flatMap((box) => box.children);
  nodes.filter((n) => n.dataset.do === name).forEach((n) => n.fire("click"));
};
panel.offer();
panel.update();
const tools = document.getElementById("object-tools").querySelectorAll("button");
out.push(tools.map((n) => n.disabled), shown("blur-value"));
const slider = document.getElementById("blur");
for (const value of ["35", "60"]) { slider.value = value; slider.fire("input"); }
slider.fire("change");
out.push(editor.edits, [...editor.live], shown("blur-value"), slider.value);
press("replace_background");
select(1);
panel.update();
out.push(tools.map((n) => n.disabled));
press("replace_background");
press("replace_sky");
press("recolor");
press("highlight");
press("remove");
out.push(editor.edits, state.selected);
slider.value = "0";
slider.fire("input");
out.push(editor.edits.map((e) => e.do), shown("blur-value"));
out.push(document.getElementById("history").children.map((n) => n.textContent));
"""


def run(code: str, folder: Path, kinds: dict[str, Any] = KINDS) -> list[Any]:
    """What the code puts into ``out``."""
    script = folder / "run.mjs"
    tail = "\nconsole.log(JSON.stringify(out));\n"
    script.write_text(DOCUMENT + code.replace("JS/", f"{JS.as_uri()}/") + tail)
    command = ["node", str(script), json.dumps(kinds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def test_the_tools_are_those_of_the_server(tmp_path: Path) -> None:
    _, objects, scene, _, words = run(FORM, tmp_path)
    tools = ["Remove", "Lift", "Highlight", "Pixelate", "Recolour", "The new colour."]
    assert objects["shown"] == tools
    assert objects["inputs"] == ["color"]
    assert objects["pressed"] == [
        ["remove", {}],
        ["lift", {}],
        ["highlight", {"dim": 0.2}],
        ["pixelate", {}],
        ["recolor", {"color": "#2060d0"}],
    ]
    # Both edits of the scene share the two colours, or the picture.
    above, below = "The new background. Colour above.", "The new background. Colour below."
    assert scene["shown"] == ["New background", above, below, "Own picture …", "New sky"]
    fill = {"fill": {"gradient": ["#2a5298", "#f5c9a3"]}}
    assert scene["pressed"] == [["replace_background", fill], ["replace_sky", fill]]
    assert words == [
        "Portrait blur 60 %: person",
        "Portrait blur 50 %",
        "Lift: person",
        "New sky",
        "explode",
    ]


def test_what_the_tools_make_is_an_edit(tmp_path: Path) -> None:
    for group in run(FORM, tmp_path)[1:3]:
        for name, settings in group["pressed"]:
            kind = EDIT_KINDS[name]
            picked = any(p.kind == "pick" for p in kind.parameters())
            pick = {"pick": {"segment": 1}} if picked else {}
            edit = Edit.from_json({"do": name, **settings, **pick})
            assert getattr(edit, "pick", None) == (Pick(segment=1) if picked else None)


def test_a_new_edit_brings_its_controls(tmp_path: Path) -> None:
    def parameter(name: str, kind: str, **more: Any) -> dict[str, Any]:
        told = {"name": name, "kind": kind, "about": f"{name}.", "basic": True, "required": False}
        return told | more

    toy = {
        "title": "Toy",
        "group": "toy",
        "basic": True,
        "slow": False,
        "parameters": [
            parameter("share", "number", low=0, high=1, default=0.5),
            parameter("count", "whole", low=1, high=9, default=3, start=4),
            parameter("part", "choice", choices=["all", "head"], default="head"),
            parameter("blades", "choice", choices=[0, 5], default=5),
            parameter("soft", "flag", default=True),
            parameter("ink", "color", default="#102030"),
            parameter("hidden", "number", low=0, high=1, default=0.5, basic=False),
        ],
    }
    found = run(FORM, tmp_path, KINDS | {"toy": toy, "secret": toy | {"basic": False}})[3]
    assert found["shown"] == ["Toy", "share.", "count.", "part.", "blades.", "soft.", "ink."]
    assert found["inputs"] == ["range", "range", "select", "select", "checkbox", "color"]
    settings = {"share": 0.5, "count": 4, "part": "head", "blades": 5, "soft": True}
    assert found["pressed"] == [["toy", settings | {"ink": "#102030"}]]


def test_the_tab_makes_the_edits_that_were_pressed(tmp_path: Path) -> None:
    out = run(PANEL, tmp_path)
    before, off, slid, live, percent, value, after, edits, selected, rest, none, history = out
    assert (before, after) == ([True] * 5, [False] * 5)
    # A slide is one step: its first move is a new one.
    assert (off, slid) == ("off", [{"do": "blur_background", "strength": 0.6}])
    assert (live, percent, value) == ([True, False], "60 %", "60")
    fill, pick = {"fill": {"gradient": ["#2a5298", "#f5c9a3"]}}, {"pick": {"segment": 1}}
    assert edits[1:] == [
        {"do": "replace_background", **fill},
        {"do": "replace_background", **fill, **pick},
        {"do": "replace_sky", **fill},
        {"do": "recolor", "color": "#2060d0", **pick},
        {"do": "highlight", "dim": 0.2, **pick},
        {"do": "remove", **pick},
    ]
    assert selected == 0  # what was removed is selected no more
    assert rest == [e["do"] for e in edits[1:]]
    assert none == "off"
    assert history[-1] == "Remove: person"
