import CPanokit
import Foundation
import XCTest

@testable import Panokit

/// The golden vectors: a suite that `panokit vectors write` put into the package's folder `suite` is
/// computed into `results`, for `panokit vectors check suite results`.
final class VectorsTests: XCTestCase {
    private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
    private let names = ["semantic", "center", "offset"]
    private let numpy = ["U8": "uint8", "I8": "int8", "I16": "int16", "F16": "float16", "F32": "float32"]

    func testVectors() throws {
        let suite = root.appendingPathComponent("suite"), results = root.appendingPathComponent("results")
        guard let text = try? Data(contentsOf: suite.appendingPathComponent("suite.json")) else {
            throw XCTSkip("there is no folder 'suite': panokit vectors write suite")
        }
        let index = try XCTUnwrap(JSONSerialization.jsonObject(with: text) as? [String: Any])
        let cases = try XCTUnwrap(index["cases"] as? [[String: Any]])
        XCTAssertGreaterThan(cases.count, 100)
        for entry in cases {
            let file = try XCTUnwrap(entry["file"] as? String)
            let tensors = try readSafetensors(suite.appendingPathComponent(file))
            let (found, texts) =
                entry["kind"] as? String == "preprocess" ? try preprocess(entry, tensors) : try decode(entry, tensors)
            try writeSafetensors(results.appendingPathComponent(file), found, texts)
        }
    }

    private func json(_ value: Any) throws -> String {
        String(decoding: try JSONSerialization.data(withJSONObject: value), as: UTF8.self)
    }

    private func tensor(_ name: String, _ dtype: String, _ shape: [Int], _ quantization: Any?) -> [String: Any] {
        var spec: [String: Any] = ["name": name, "shape": [1] + shape, "dtype": dtype, "layout": "nhwc"]
        if let quantization = quantization as? [String: Any] {
            spec["scale"] = quantization["scale"]
            spec["zero_point"] = quantization["zero_point"]
        }
        return spec
    }

    private func manifest(
        _ size: [Int], _ categories: [[String: Any]], _ post: Any, _ input: [String: Any], _ heads: [[String: Any]]
    ) throws -> Data {
        let outputs = Dictionary(uniqueKeysWithValues: zip(names, heads))
        let artifact: [String: Any] = [
            "name": "a", "format": "tflite", "file": "a", "sha256": "", "precision": "", "input": input,
            "outputs": outputs,
        ]
        return try JSONSerialization.data(withJSONObject: [
            "schema_version": 1, "name": "case", "preprocessing": ["size_wh": size], "postprocessing": post,
            "taxonomy": ["categories": categories], "artifacts": [artifact],
        ] as [String: Any])
    }

    private func preprocess(
        _ entry: [String: Any], _ tensors: [String: Stored]
    ) throws -> ([String: Stored], [String: String]) {
        let photo = try XCTUnwrap(tensors["in.photo"]), size = try XCTUnwrap(entry["size_wh"] as? [Int])
        let quantization = try XCTUnwrap(entry["quantization"] as? [String: Any])
        let dtype = try XCTUnwrap(quantization["dtype"] as? String)
        let heads = (0..<3).map { tensor(names[$0], "float32", [1, 1, $0 == 2 ? 2 : 1], nil) }
        let input = tensor("image", dtype, [size[1], size[0], 3], quantization)
        let made = try manifest(size, [["id": 1, "name": "a"]], [String: Any](), input, heads)
        let session = try Panokit(manifest: made).session()
        let (h, w) = (photo.shape[0], photo.shape[1])
        try photo.bytes.withUnsafeBytes {
            try session.preprocess(Picture(format: .rgb, base: $0.baseAddress!, width: w, height: h, rowStride: 3 * w))
        }
        let rgb = UnsafeBufferPointer(start: panokit_input_rgb(session.session), count: 3 * size[0] * size[1])
        let t = panokit_session_transform(session.session)!.pointee
        let transform: [String: Any] = [
            "photo_wh": [t.photo_width, t.photo_height], "input_wh": [t.input_width, t.input_height],
            "content_wh": [t.content_width, t.content_height], "left": t.left, "top": t.top,
        ]
        let shape = [size[1], size[0], 3], type = numpy.first { $0.value == dtype }!.key
        let found = [
            "input": Stored(dtype: "U8", shape: shape, bytes: Array(rgb)),
            "quantized": Stored(dtype: type, shape: shape, bytes: try session.input()),
        ]
        return (found, ["transform": try json(transform)])
    }

    private func decode(
        _ entry: [String: Any], _ tensors: [String: Stored]
    ) throws -> ([String: Stored], [String: String]) {
        let transform = try XCTUnwrap(entry["transform"] as? [String: Any])
        let size = try XCTUnwrap(transform["input_wh"] as? [Int]), photo = try XCTUnwrap(transform["photo_wh"] as? [Int])
        let quantization = try XCTUnwrap(entry["quantization"] as? [String: Any])
        let raw = try names.map { try XCTUnwrap(tensors["in.\($0)"]) }
        let specs = (0..<3).map { tensor(names[$0], numpy[raw[$0].dtype]!, raw[$0].shape, quantization[names[$0]]) }
        let taxonomy = try XCTUnwrap(entry["taxonomy"] as? [[String: Any]])
        let categories = taxonomy.enumerated().map { $1.merging(["name": "c\($0)"]) { a, _ in a } }
        let input = tensor("image", "uint8", [size[1], size[0], 3], nil)
        let made = try manifest(size, categories, entry["postprocessing"]!, input, specs)
        let panokit = try Panokit(manifest: made)
        let session = try Session(panokit, matte: false, maxPhotoSide: 0, explain: true)
        try session.setPhoto(width: photo[0], height: photo[1])
        let copies = raw.map { tensor -> UnsafeMutableRawBufferPointer in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: tensor.bytes.count, alignment: 8)
            copy.copyBytes(from: tensor.bytes)
            return copy
        }
        defer { copies.forEach { $0.deallocate() } }
        do {
            let heads = zip(copies, raw).map { Head(base: $0.baseAddress!, bytes: $0.count, dtype: $1.type) }
            let result = try session.decode(heads)
            return (stages(panokit, session, result), ["segments": try json(segments(result))])
        } catch let error as PanokitError {
            let head = try XCTUnwrap(error.head), position = try XCTUnwrap(error.position)
            let told: [String: Any] = ["head": names[head], "position": head == 1 ? Array(position.dropLast()) : position]
            return ([:], ["error": try json(told)])
        }
    }

    private func stages(_ panokit: Panokit, _ session: Session, _ result: Result) -> [String: Stored] {
        var e = panokit_explanation()
        XCTAssertEqual(panokit_explain(session.session, &e), PANOKIT_OK)
        let (h, w, c) = (panokit.heads[0].height, panokit.heads[0].width, panokit.heads[0].channels)
        let (gh, gw, n) = (panokit.gridHeight, panokit.gridWidth, Int(e.center_count))
        func stored<T>(_ start: UnsafePointer<T>?, _ dtype: String, _ shape: [Int]) -> Stored {
            Stored(Array(UnsafeBufferPointer(start: start, count: shape.reduce(1, *))), dtype, shape)
        }
        return [
            "real.semantic": stored(e.real.0, "F32", [h, w, c]), "real.center": stored(e.real.1, "F32", [h, w]),
            "real.offset": stored(e.real.2, "F32", [h, w, 2]), "semantic": stored(e.semantic, "F32", [gh, gw, c]),
            "offset": stored(e.offset, "F32", [gh, gw, 2]), "class_map": stored(e.class_map, "I32", [gh, gw]),
            "scores": stored(e.scores, "F32", [h, w]), "centers": stored(e.centers, "I32", [n, 2]),
            "center_scores": stored(e.center_scores, "F32", [n]), "votes": stored(e.votes, "I32", [gh, gw]),
            "ids": Stored(result.ids, "I32", [gh, gw]),
            "photo_ids": Stored(result.photoIds, "I32", [result.photoHeight, result.photoWidth]),
        ]
    }

    private func segments(_ result: Result) -> [[String: Any]] {
        result.segments.map { s in
            let center: Any = s.center.map { [Double($0.y), Double($0.x)] as Any } ?? NSNull()
            return [
                "id": s.id, "category_id": s.category.id, "isthing": s.category.isThing ? 1 : 0, "area": s.area,
                "score": s.score, "center_yx": center,
            ]
        }
    }
}
