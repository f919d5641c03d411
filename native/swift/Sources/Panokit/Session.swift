import CPanokit
import Foundation

/// Four bytes or three a pixel; `rgbx` and `bgrx` leave the fourth out (opaque, or alpha multiplied
/// in), `rgba` and `bgra` are composited over black.
public enum PixelFormat: UInt32 {
    case rgb = 0, rgbx, bgrx, rgba, bgra
}

/// A picture in sRGB that lies in someone else's memory, which must stay while it is used.
/// `orientation` is EXIF's, 1...8; strides are bytes.
public struct Picture {
    var image = panokit_image()

    public init(
        format: PixelFormat, base: UnsafeRawPointer, width: Int, height: Int, rowStride: Int, orientation: Int = 1
    ) {
        image.format = panokit_pixel_format(format.rawValue)
        image.data = base.assumingMemoryBound(to: UInt8.self)
        (image.width, image.height) = (Int32(width), Int32(height))
        (image.row_stride, image.orientation) = (rowStride, Int32(orientation))
    }

    /// YUV 4:2:0, 8 bit. Both planes of a biplanar pixel buffer: u at its second plane, v a byte on, step 2.
    public init(
        y: UnsafeRawPointer, u: UnsafeRawPointer, v: UnsafeRawPointer, width: Int, height: Int, rowStride: Int,
        chromaRowStride: Int, chromaStep: Int, fullRange: Bool, bt709: Bool, orientation: Int = 1
    ) {
        self.init(format: .rgb, base: y, width: width, height: height, rowStride: rowStride, orientation: orientation)
        image.format = PANOKIT_YUV420
        image.u = u.assumingMemoryBound(to: UInt8.self)
        image.v = v.assumingMemoryBound(to: UInt8.self)
        (image.chroma_row_stride, image.chroma_step) = (chromaRowStride, chromaStep)
        image.full_range = fullRange ? 1 : 0
        image.matrix = bt709 ? PANOKIT_BT709 : PANOKIT_BT601
    }
}

/// A raw head as the runtime left it; strides are elements from one row, column and channel to the
/// next, 0 is dense in the manifest's layout. The memory must stay until `decode` returns.
public struct Head {
    public let base: UnsafeRawPointer
    public let bytes: Int
    public let dtype: DType
    public let rowStride, columnStride, channelStride: Int

    public init(
        base: UnsafeRawPointer, bytes: Int, dtype: DType, rowStride: Int = 0, columnStride: Int = 0,
        channelStride: Int = 0
    ) {
        (self.base, self.bytes, self.dtype) = (base, bytes, dtype)
        (self.rowStride, self.columnStride, self.channelStride) = (rowStride, columnStride, channelStride)
    }

    var tensor: panokit_tensor {
        panokit_tensor(
            data: base, bytes: bytes, dtype: panokit_dtype(dtype.rawValue), row_stride: rowStride,
            column_stride: columnStride, channel_stride: channelStride)
    }

    /// Dense and channels last, as a dump holds it.
    func dense(_ spec: TensorSpec) -> [UInt8] {
        let strided = rowStride != 0 || columnStride != 0 || channelStride != 0
        let planes = spec.channelsFirst && !strided
        let row = strided ? rowStride : planes ? spec.width : spec.width * spec.channels
        let column = strided ? columnStride : planes ? 1 : spec.channels
        let channel = strided ? channelStride : planes ? spec.height * spec.width : 1
        var out = [UInt8]()
        out.reserveCapacity(spec.height * spec.width * spec.channels * dtype.bytes)
        for y in 0..<spec.height {
            for x in 0..<spec.width {
                for c in 0..<spec.channels {
                    let at = base + (y * row + x * column + c * channel) * dtype.bytes
                    out.append(contentsOf: UnsafeRawBufferPointer(start: at, count: dtype.bytes))
                }
            }
        }
        return out
    }
}

/// One object or region; `box` is left, top, right, bottom in photo pixels, ends exclusive.
public struct Segment {
    public let id: Int
    public let category: Category
    public let score: Double
    public let area, photoArea: Int
    /// Things: the network's centre in input pixels.
    public let center: (x: Float, y: Float)?
    public let box: [Int]
}

/// A segmented photo.
public struct Result {
    /// In id order: things by their centres' scores, then stuff by category id.
    public let segments: [Segment]
    /// The map on the decode grid and on the upright photo, row by row; 0 is void.
    public let ids, photoIds: [Int32]
    public let photoWidth, photoHeight: Int

    /// Objects per thing class.
    public var counts: [String: Int] {
        let things = segments.filter { $0.category.isThing && $0.photoArea > 0 }
        return Dictionary(grouping: things, by: \.category.name).mapValues(\.count)
    }

    /// The segment at a photo pixel; nil on void and outside.
    public func at(x: Int, y: Int) -> Segment? {
        guard x >= 0, y >= 0, x < photoWidth, y < photoHeight else { return nil }
        let id = Int(photoIds[y * photoWidth + x])
        return id == 0 ? nil : segments[id - 1]
    }
}

/// Working memory, and what was computed last. For one thread at a time.
public final class Session {
    let panokit: Panokit
    let session: OpaquePointer
    private var kept: [(DType, [UInt8])] = []

    init(_ panokit: Panokit, matte: Bool, maxPhotoSide: Int, explain: Bool) throws {
        var opened: OpaquePointer?
        var options = panokit_options(
            max_photo_side: Int32(maxPhotoSide), matte: matte ? 1 : 0, explain: explain ? 1 : 0)
        try PanokitError.check { panokit_session_open(panokit.model, &options, &opened, $0) }
        (self.panokit, session) = (panokit, opened!)
    }

    deinit { panokit_session_close(session) }

    /// Picture to input.
    public func preprocess(_ picture: Picture) throws {
        kept = []
        var image = picture.image
        try PanokitError.check { panokit_preprocess(session, &image, $0) }
    }

    /// For heads of an input that was made elsewhere (Vision's scaleFit): the upright photo's size.
    public func setPhoto(width: Int, height: Int) throws {
        kept = []
        try PanokitError.check { panokit_set_photo(session, Int32(width), Int32(height), $0) }
    }

    /// The input as the artifact takes it: type, quantisation and layout of the manifest.
    public func input() throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: panokit_input_bytes(panokit.model))
        let count = bytes.count
        try PanokitError.check { panokit_input(session, &bytes, count, $0) }
        return bytes
    }

    /// The input as 4 bytes a pixel for a platform image, blue first.
    public func inputBGRA(into base: UnsafeMutablePointer<UInt8>, rowStride: Int) throws {
        try PanokitError.check { panokit_input_pixels(session, PANOKIT_BGRX8, base, rowStride, $0) }
    }

    /// Heads (semantic, center, offset) to result. `keep` holds them for a dump.
    public func decode(_ heads: [Head], keep: Bool = false) throws -> Result {
        precondition(heads.count == 3, "expected the heads semantic, center and offset")
        kept = []
        let tensors = heads.map(\.tensor)
        try PanokitError.check { panokit_decode(session, tensors, $0) }
        if keep { kept = zip(heads, panokit.heads).map { ($0.dtype, $0.dense($1)) } }
        return try result()
    }

    private func result() throws -> Result {
        var count: Int32 = 0
        let found = panokit_segments(session, &count)
        let segments = (0..<Int(count)).map { i -> Segment in
            let s = found![i]
            let category = panokit.categories[Int(s.channel)]
            return Segment(
                id: Int(s.id), category: category, score: s.score, area: Int(s.area), photoArea: Int(s.photo_area),
                center: s.is_thing == 0 ? nil : (s.center_x, s.center_y),
                box: [Int(s.box.0), Int(s.box.1), Int(s.box.2), Int(s.box.3)])
        }
        let transform = panokit_session_transform(session)!.pointee
        let (w, h) = (Int(transform.photo_width), Int(transform.photo_height))
        var photo = [Int32](repeating: 0, count: w * h)
        try PanokitError.check { panokit_photo_ids(session, &photo, 4, 4 * w, $0) }
        let grid = UnsafeBufferPointer(start: panokit_ids(session), count: panokit.gridWidth * panokit.gridHeight)
        return Result(segments: segments, ids: Array(grid), photoIds: photo, photoWidth: w, photoHeight: h)
    }

    /// A segment's mask as COCO's compressed run lengths.
    public func rle(_ id: Int) throws -> String {
        var needed = 0
        try PanokitError.check { panokit_rle(session, Int32(id), nil, 0, &needed, $0) }
        var text = [CChar](repeating: 0, count: needed)
        let room = needed
        try PanokitError.check { panokit_rle(session, Int32(id), &text, room, &needed, $0) }
        return String(decoding: text.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Ids of all persons and of what they wear or hold: what a portrait keeps sharp.
    public func portrait() throws -> [Int] {
        var needed: Int32 = 0
        try PanokitError.check { panokit_portrait(session, nil, 0, &needed, $0) }
        var ids = [Int32](repeating: 0, count: Int(needed) + 1)
        let room = needed
        try PanokitError.check { panokit_portrait(session, &ids, room, &needed, $0) }
        return ids.prefix(Int(needed)).map(Int.init)
    }

    /// The soft matte of some segments, 0...1, row by row on the upright photo.
    public func matte(_ picture: Picture, ids: [Int]) throws -> [Float] {
        guard let transform = panokit_session_transform(session)?.pointee else { return [] }
        let w = Int(transform.photo_width)
        var image = picture.image, alpha = [Float](repeating: 0, count: w * Int(transform.photo_height))
        let wanted = ids.map(Int32.init)
        try PanokitError.check { panokit_matte(session, &image, wanted, Int32(wanted.count), &alpha, w, $0) }
        return alpha
    }

    /// What was computed last, as a file for `panokit validate`: input, map, and the heads if `decode` kept
    /// them. `texts` say what computed it: device, os, app, runtime, photo.
    public func dump(to url: URL, texts: [String: String] = [:]) throws {
        var dump = panokit_dump(), file = Data(), owned: [UnsafeMutablePointer<CChar>] = []
        var buffers: [UnsafeMutablePointer<UInt8>] = []
        defer {
            owned.forEach { free($0) }
            buffers.forEach { $0.deallocate() }
        }
        panokit_dump_init(&dump, session)
        try PanokitError.check { panokit_dump_result(&dump, $0) }
        for (i, (dtype, bytes)) in kept.enumerated() {
            let copy = UnsafeMutablePointer<UInt8>.allocate(capacity: bytes.count)
            copy.initialize(from: bytes, count: bytes.count)
            buffers.append(copy)
            try PanokitError.check {
                panokit_dump_head(
                    &dump, panokit_head(UInt32(i)), panokit_dtype(dtype.rawValue), copy, bytes.count, $0)
            }
        }
        for (key, value) in texts.sorted(by: { $0.key < $1.key }) {
            guard let name = strdup(key), let text = strdup(value) else { continue }
            owned += [name, text]
            try PanokitError.check { panokit_dump_text(&dump, name, text, $0) }
        }
        try PanokitError.check { error in
            withUnsafeMutablePointer(to: &file) { target in
                panokit_dump_write(
                    &dump,
                    { context, bytes, count in
                        guard let context, let bytes else { return 1 }
                        context.assumingMemoryBound(to: Data.self).pointee.append(
                            bytes.assumingMemoryBound(to: UInt8.self), count: count)
                        return 0
                    }, target, error)
            }
        }
        try file.write(to: url, options: .atomic)
    }
}
