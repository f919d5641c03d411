import Foundation
import XCTest

@testable import Panokit

/// The Swift face on a small bundle of its own; the numbers are proved by the vectors.
final class PanokitTests: XCTestCase {
    private let manifest = Data(
        """
        {"schema_version": 1, "name": "toy", "preprocessing": {"size_wh": [16, 16]},
         "postprocessing": {"threshold": 0.5, "min_thing_area": 1, "min_stuff_area": 1},
         "taxonomy": {"categories": [{"id": 2, "name": "person"}, {"id": 7, "name": "Straße 😀", "isthing": 0}]},
         "artifacts": [{"name": "float", "format": "coreml", "file": "m", "sha256": "", "precision": "float16",
          "input": {"name": "image", "shape": [1, 16, 16, 3], "dtype": "uint8", "layout": "image"},
          "outputs": {
           "semantic": {"name": "s", "shape": [1, 2, 4, 4], "dtype": "float16", "layout": "nchw"},
           "center": {"name": "c", "shape": [1, 1, 4, 4], "dtype": "float16", "layout": "nchw"},
           "offset": {"name": "o", "shape": [1, 2, 4, 4], "dtype": "float16", "layout": "nchw"}}}]}
        """.utf8)

    /// A person in the left half, planes of Float16 as Core ML gives them, rows padded to 8.
    private func withHeads<R>(_ body: ([Head]) throws -> R) rethrows -> R {
        var semantic = [Float16](repeating: 0, count: 2 * 4 * 8), center = [Float16](repeating: -9, count: 4 * 8)
        let offset = [Float16](repeating: 0, count: 2 * 4 * 8)
        for y in 0..<4 {
            for x in 0..<4 { semantic[(x < 2 ? 0 : 32) + y * 8 + x] = 9 }
        }
        center[2 * 8 + 1] = 3
        return try semantic.withUnsafeBytes { s in
            try center.withUnsafeBytes { c in
                try offset.withUnsafeBytes { o in
                    try body([s, c, o].map {
                        Head(
                            base: $0.baseAddress!, bytes: $0.count, dtype: .float16, rowStride: 8, columnStride: 1,
                            channelStride: 32)
                    })
                }
            }
        }
    }

    func testManifestIsTold() throws {
        let panokit = try Panokit(manifest: manifest)
        XCTAssertEqual(panokit.categories.map(\.name), ["person", "Straße 😀"])
        XCTAssertEqual(panokit.categories.map(\.isThing), [true, false])
        XCTAssertEqual(panokit.heads[1].dtype, .float16)
        XCTAssertEqual([panokit.gridWidth, panokit.gridHeight], [16, 16])
    }

    func testRefusalsAreSentences() throws {
        XCTAssertThrowsError(try Panokit(manifest: Data("{".utf8))) {
            XCTAssertTrue("\($0)".hasPrefix("manifest: expected JSON"), "\($0)")
        }
        XCTAssertThrowsError(try Panokit(manifest: manifest, artifact: "tflite")) {
            XCTAssertEqual("\($0)", "the bundle has no artifact 'tflite'")
        }
        let session = try Panokit(manifest: manifest).session()
        XCTAssertThrowsError(try withHeads { try session.decode($0) })
        try session.setPhoto(width: 32, height: 16)
        XCTAssertThrowsError(try withHeads { heads in
            try session.decode([heads[0], Head(base: heads[1].base, bytes: 6, dtype: .float16), heads[2]])
        }) { XCTAssertEqual(($0 as? PanokitError)?.head, 1) }
    }

    func testStridedHalfPlanesToResultAndDump() throws {
        let session = try Panokit(manifest: manifest).session(matte: true)
        let pixels = [UInt8](repeating: 200, count: 32 * 16 * 4)
        let picture = { (base: UnsafeRawBufferPointer) in
            Picture(format: .bgrx, base: base.baseAddress!, width: 32, height: 16, rowStride: 128)
        }
        try pixels.withUnsafeBytes { try session.preprocess(picture($0)) }
        XCTAssertEqual(try session.input().count, 16 * 16 * 3)
        let result = try withHeads { try session.decode($0, keep: true) }
        XCTAssertEqual(result.counts, ["person": 1])
        XCTAssertEqual(result.at(x: 3, y: 8)?.category.name, "person")
        XCTAssertEqual(result.at(x: 30, y: 8)?.category.name, "Straße 😀")
        XCTAssertNil(result.at(x: 32, y: 0))
        XCTAssertEqual(result.segments.map(\.photoArea).reduce(0, +), 32 * 16)
        XCTAssertEqual(try session.portrait(), [1])
        XCTAssertFalse(try session.rle(1).isEmpty)
        let alpha = try pixels.withUnsafeBytes { try session.matte(picture($0), ids: [1]) }
        XCTAssertEqual(alpha.count, 32 * 16)
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("panokit.safetensors")
        try session.dump(to: url, texts: ["device": "Größe \"x\""])
        let stored = try readSafetensors(url)
        XCTAssertEqual(Set(stored.keys), ["input", "semantic", "center", "offset", "panoptic"])
        XCTAssertEqual(stored["semantic"]?.shape, [4, 4, 2])
        let first = stored["semantic"]!.bytes.withUnsafeBytes { $0.loadUnaligned(as: Float16.self) }
        XCTAssertEqual(first, 9)
    }
}
