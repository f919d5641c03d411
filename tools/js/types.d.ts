/**
 * The types that the demo's JavaScript names in its JSDoc comments: answers of the server, results,
 * tensors, elements of the page. `make lint` checks by them; no browser ever sees them.
 */

declare namespace Panokit {
  type Pair = [number, number];
  type Box = [number, number, number, number]; // x0, y0, x1, y1 in pixels
  type Side = "left" | "right";
  type View = "panoptic" | "semantic" | "instances" | "boxes";

  // Numbers.

  type Numbers =
    | Float64Array | Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array
    | Int8Array | Uint8Array | Uint8ClampedArray;
  type Bytes = Uint8Array | Uint8ClampedArray;
  type Stored = Numbers | BigInt64Array | BigUint64Array;
  /** A constructor of whole numbers, as quantising an image uses it. */
  interface WholeNumbers {
    new (length: number): Int8Array | Uint8Array | Int16Array;
    from(values: { length: number }, map: (_: unknown, index: number) => number): Int8Array | Uint8Array | Int16Array;
    from(values: Numbers, map: (value: number) => number): Int8Array | Uint8Array | Int16Array;
  }
  /** Bytes that a file can be made of. */
  type FileBytes = Uint8Array<ArrayBuffer>;
  /** Row-major; `dtype` as in a safetensors file. */
  interface Tensor { dtype: string; shape: number[]; data: Stored }
  /** A tensor whose values are plain numbers. */
  interface NumberTensor { shape: number[]; data: Numbers }
  interface Quantization { scale: number; zero_point?: number }
  type InputQuantization = Required<Quantization> & { dtype: "int8" | "uint8" | "int16" };

  // What decoding takes and gives.

  type HeadName = "semantic" | "center" | "offset";
  interface Heads {
    semantic: Float32Array; // [h][w][channels], logits
    center: Float32Array; // [h][w], logits
    offset: Float32Array; // [h][w][2], dy and dx in input pixels
    h: number;
    w: number;
    channels: number;
  }
  interface Class { id: number; isthing: number }
  interface Category extends Class { name: string; color: [number, number, number] }
  interface Transform {
    photo_wh: Pair;
    input_wh: Pair;
    content_wh: Pair;
    left: number;
    top: number;
    scale?: number;
    orientation?: number;
    color?: string;
    kernel?: string;
  }
  interface Postprocessing {
    threshold: number;
    window: number;
    top_k: number;
    min_thing_area: number;
    min_stuff_area: number;
    min_thing_score?: number;
    grid?: string;
  }
  interface Axis { centers: Float32Array; from: number; to: number }
  interface Grid { h: number; w: number; y: Axis; x: Axis }
  interface Center { cell: Pair; score: number; y: number; x: number }
  interface Resized { semantic: Float32Array; offset: Float32Array }
  interface Classes {
    channel: Int32Array;
    peak: Float32Array;
    total: Float64Array;
    row: (y: number) => Float32Array;
  }
  interface Decoded {
    id: number;
    category_id: number;
    isthing: number;
    area: number;
    score: number;
    center_yx: Pair | null;
  }
  interface Decoding {
    ids: Int32Array;
    shape: Pair;
    segments: Decoded[];
    class_map: Int32Array;
    scores: Float32Array;
    centers: Center[];
    votes: Int32Array;
    resized: Resized | null;
  }

  // What decoding by other contracts takes and gives.

  /** Heads by name: channels last, anchors first, with or without a batch axis of 1. */
  type HeadTensors = Record<string, { shape: number[]; data: Stored } | undefined>;
  interface FloatTensor { shape: number[]; data: Float32Array }
  /** For each output two inputs, and the second one's weight. */
  interface Taps { low: Int32Array; high: Int32Array; f: Float32Array }
  interface Detail { shape: number[]; data: Int32Array | Float32Array }
  interface ContractDecoding {
    ids: Int32Array;
    shape: Pair;
    onPhoto: boolean; // whether ids lie on the photo itself, not on the input
    segments: Decoded[];
    details: Record<string, Detail>; // intermediates, as the golden vectors name them
  }
  type Mix = { first: number; weights: number[] }[];
  interface MaskQueriesSettings {
    classes: "softmax" | "sigmoid" | "probabilities" | "labels";
    no_object: boolean;
    threshold: number;
    stuff_threshold: number | null;
    mask_grid: "head" | "input" | Pair;
    activation: "sigmoid" | "softmax";
    activate_last: boolean;
    align_corners: boolean;
    antialias?: boolean;
    crop_first: boolean;
    owner: "best" | "first";
    order?: "given" | "score";
    mask_threshold: number;
    mask_rule?: "at-least" | "above";
    weighted: boolean;
    overlap: number;
    overlap_rule: "at-least" | "ratio-above" | "product-above";
    painted: "owned" | "inside";
    min_thing_area: number;
    min_stuff_area: number;
    grid: "input" | "photo";
    columns: number[];
  }
  interface InstancesSettings {
    tensors: "joined" | "rows" | "split";
    anchors_last: boolean;
    objectness: boolean;
    masks: "prototypes" | "direct";
    box: "center" | "corners" | "distances";
    box_unit: "pixels" | "input";
    strides: number[];
    classes: "probabilities" | "sigmoid" | "softmax";
    background: "none" | "first" | "last";
    choice: "best" | "pairs";
    threshold: number;
    top_k: number | null;
    nms: number | null;
    class_wise: boolean;
    max_count: number;
    activation: "none" | "sigmoid";
    mask_threshold: number;
    crop: "after" | "before" | "none";
    min_area: number;
    columns: number[];
  }
  interface SemanticSettings {
    input: "logits" | "probabilities" | "labels";
    align_corners: boolean;
    columns: number[];
    min_area: number;
    threshold?: number | null;
  }
  interface MergeSettings {
    threshold: number;
    order: "score" | "given";
    overlap: number;
    min_stuff_area: number;
    area_grid: "input" | "photo";
  }
  interface InstancesSemanticSettings {
    instances: InstancesSettings;
    semantic: SemanticSettings;
    merge: MergeSettings;
  }
  /** One object: `mask` [height][width], whose first pixel is (y, x) of the input. */
  interface Instance {
    index: number;
    channel: number;
    score: number;
    box: number[]; // x0, y0, x1, y1 in input pixels, cut to the photo
    y: number;
    x: number;
    height: number;
    width: number;
    mask: Uint8Array;
    area: number;
  }

  /** What a network gives: a head as the artifact stores it. */
  interface Raw { dtype: string; shape: number[]; data: Numbers }

  // What the server answers.

  interface TensorSpec {
    name: string;
    shape: number[];
    dtype: "float32" | "uint8" | "int8";
    scale: number | null;
    zero_point: number;
  }
  interface Offer {
    id: string;
    bundle: string;
    name: string;
    format: string;
    precision: string;
    bytes: number;
    sha256: string;
    runs_here: boolean;
    runs_in_browser: boolean;
    input_wh: Pair;
    postprocessing: Postprocessing;
    taxonomy: Category[];
    tensors: Record<"image" | HeadName, TensorSpec>;
  }
  interface Info {
    artifacts: Offer[];
    default: string;
    samples: string[];
    edits: EditKinds;
    limits: { upload_bytes: number };
    device: { ready: boolean; missing: string | null };
  }
  interface FoundSegment extends Decoded { category: string; box_xyxy?: Box }
  type Segment = FoundSegment & { box_xyxy: Box };
  interface PackedMap { shape: Pair; dtype?: string; data: string | Int32Array }
  interface Answer {
    artifact: string;
    segments: FoundSegment[];
    transform: Transform;
    map: PackedMap;
    colors: Record<number, string>;
    counts: Record<string, number>;
    milliseconds: { network: number; other: number };
  }
  /** This device's answer: no colours, counts or times yet. */
  type DeviceAnswer = Pick<Answer, "artifact" | "segments" | "transform" | "map">;
  interface SessionAnswer {
    session: string;
    name: string;
    full_wh: Pair;
    size_wh: Pair;
    result: Answer;
  }
  interface Verdict {
    verdict: "pass" | "pass with rounding" | "fail";
    stages: { stage: string; verdict: string; message: string }[];
    metadata: { device: string; runtime: string; delegate: string };
    causes: { name: string | null }[];
  }
  interface EditPick { tap?: Pair; class?: string; segment?: number; add?: Pair[]; remove?: Pair[] }
  // The golden vectors.

  interface PreprocessCase {
    kind: "preprocess";
    name: string;
    file: string;
    size_wh: Pair;
    quantization: InputQuantization;
    expected: Outcome;
  }
  interface DecodeCase {
    kind: "decode";
    name: string;
    file: string;
    taxonomy: Class[];
    transform: Transform;
    postprocessing: Postprocessing;
    quantization: Record<string, Quantization>;
    expected: Outcome;
  }
  /** A case of another contract than center-offset. */
  interface ContractCase {
    kind: "decode";
    contract: string;
    name: string;
    file: string;
    taxonomy: Class[];
    transform: Transform;
    settings: any; // those of the contract
    expected: Outcome;
  }
  type Case = PreprocessCase | DecodeCase | ContractCase;
  interface Outcome {
    error?: { head: string; position: number[] };
    transform?: Record<string, any>;
    segments?: Record<string, any>[];
  }
  interface Suite { format: string; score_tolerance: number; cases: Case[] }

  // The page about the API.

  interface Schema {
    $ref?: string;
    required?: string[];
    properties?: Record<string, { description?: string; enum?: string[] }>;
  }
  interface Operation {
    tags?: string[];
    description?: string;
    summary?: string;
    parameters?: { name: string; required?: boolean; description?: string }[];
    requestBody?: { content: Record<string, { schema?: Schema }> };
  }
  interface OpenApi {
    info: { description: string };
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, Schema> };
  }
  interface Described { path: string; method: string; operation: Operation }

  interface EditFill { gradient?: string[]; photo?: string }
  type EditValue = number | string | boolean | EditFill;
  interface Edit {
    do: string;
    pick?: EditPick;
    [parameter: string]: EditValue | EditPick | undefined;
  }
  /** A parameter of a kind of edit; `start`: what the page begins with, if not with the default. */
  interface EditParameter {
    name: string;
    kind: "number" | "whole" | "choice" | "flag" | "color" | "fill" | "pick";
    about: string;
    basic: boolean;
    low: number;
    high: number;
    choices: string[];
    default?: EditValue;
    start?: EditValue;
  }
  interface EditKind {
    title: string;
    group: string;
    basic: boolean;
    slow?: boolean;
    parameters: EditParameter[];
  }
  type EditKinds = Record<string, EditKind>;
  interface EditControl { nodes: HTMLElement[]; value: () => EditValue }
  interface EditsFile { version: number; photo?: string; edits: Edit[] }
  interface Drawing {
    blob: Blob;
    message: string;
    applied: boolean;
    transparent: boolean;
    milliseconds: number;
  }

  // Frames of a camera.

  /** A thing of a frame: `mask` [h][w] 0 or 1, its box, and the middle of the box's lower edge. */
  interface Seen {
    id: number;
    category_id: number;
    mask: Uint8Array;
    area: number;
    box: number[];
    foot: Pair;
  }
  /** One object over time: `step` is how far it moved last, `seen` frames it was in, `missed` frames since. */
  interface Track {
    number: number;
    category_id: number;
    mask: Uint8Array;
    area: number;
    foot: Pair;
    step: Pair;
    seen: number;
    missed: number;
  }
  type Frame = ImageBitmap | VideoFrame;
  interface LiveSegment { number: number; channel: number; isthing: number; score: number; seen: number }
  /** The mean colour of each cell on the photo and how much of it is the subject, RGBA. */
  interface Guide { data: Uint8Array; size: Pair; moving: Uint8Array | null }
  interface LiveFrame {
    guide: Uint8Array;
    grid: Pair; // columns and rows of the guide and the labels
    labels: Int32Array;
    segments: LiveSegment[];
    subject: boolean; // whether what the effect is about is there
    place: { scale: Pair; shift: Pair }; // where a place in 0..1 of the frame lies, in cells
    milliseconds: { read: number; network: number; all: number };
  }

  // What the page shows.

  /** Elements of the page that are more than an HTMLElement, by id. */
  interface Elements {
    artifact: HTMLSelectElement;
    blur: HTMLInputElement;
    camera: HTMLInputElement;
    compare: HTMLInputElement;
    cut: HTMLInputElement;
    file: HTMLInputElement;
    "file-again": HTMLInputElement;
    "fill-bottom": HTMLInputElement;
    "fill-top": HTMLInputElement;
    left: HTMLSelectElement;
    "live-shutter": HTMLButtonElement;
    "live-strength": HTMLInputElement;
    "live-view": HTMLCanvasElement;
    "load-edits": HTMLInputElement;
    marks: HTMLCanvasElement;
    opacity: HTMLInputElement;
    "recolor-color": HTMLInputElement;
    redo: HTMLButtonElement;
    right: HTMLSelectElement;
    "run-device": HTMLButtonElement;
    "save-dump": HTMLButtonElement;
    "save-jpg": HTMLButtonElement;
    "save-png": HTMLButtonElement;
    undo: HTMLButtonElement;
  }
  type ElementOf<Id extends string> = Id extends keyof Elements ? Elements[Id] : HTMLElement;
  type Browser = Navigator & {
    userAgentData?: { platform?: string; brands?: { brand: string; version: string }[] };
  };

  /** A result ready to draw: `ids` [h][w] on the shown photo, 0 = no class. */
  interface Result {
    artifact: string;
    segments: Segment[];
    transform: Transform;
    colors: Record<number, string>;
    counts: Record<string, number>;
    milliseconds: { network: number; other: number };
    ids: Int32Array;
    size: Pair;
    categories: Map<number, Category>;
    byId: Map<number, Segment>;
  }
  type Picture = ImageBitmap;
  type Edited = Drawing & { picture: Picture };
  interface Layer { label: string; picture: Picture; result: Result | null }
  interface Scene {
    left: Layer | null;
    right: Layer;
    names: boolean;
    result: Result;
    selected: number;
    outlined: boolean;
    view: View;
    description: string;
  }
  interface OpenPhoto { session: string; name: string; size: Pair; full: Pair; picture: Picture }
  interface State {
    info: Info;
    photo: OpenPhoto | null;
    artifact: string;
    results: Map<string, Result>;
    device: Result | null;
    edited: Edited | null;
    tab: string;
    view: View;
    selected: number;
    outlined: boolean;
    tap: Pair | null;
    /** Whether what is selected is a region that no class knows, round the tap. */
    unknown: boolean;
    /** Points of what the network left out of the selected object, and of what it took for it. */
    corrections: { add: Pair[]; remove: Pair[] };
    compare: boolean;
    sides: Record<Side, string | null>;
  }
}
