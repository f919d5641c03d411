import Foundation
@testable import Panokit

/// An app whose network is a table of the golden inputs; the file `fault` says what it does wrong.
struct App: PanokitGoldenPipeline {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let session = try! Panokit(manifest: App.read("manifest.json")!).session()
    let fault = App.read("fault").map { String(decoding: $0, as: UTF8.self) } ?? ""

    static func read(_ name: String) -> Data? { try? Data(contentsOf: folder.appendingPathComponent(name)) }

    func input(rgb: [UInt8], width: Int, height: Int) throws -> [UInt8] {
        try rgb.withUnsafeBytes {
            try session.preprocess(
                Picture(format: .rgb, base: $0.baseAddress!, width: width, height: height, rowStride: 3 * width))
        }
        return try session.input()
    }

    func run(input: [UInt8]) throws -> PanokitGoldenHeads {
        for name in ["astronaut", "grace_hopper", "coffee"] {
            func bytes(_ file: String) -> [UInt8] { [UInt8](App.read("golden/\(name)/\(file).bin")!) }
            if bytes("input") != input { continue }
            let offset = fault == "offset" ? [UInt8](repeating: 0, count: 12800) : bytes("offset")
            return PanokitGoldenHeads(semantic: bytes("semantic"), center: bytes("center"), offset: offset)
        }
        fatalError("an input that is in no case")
    }

    func map(heads: PanokitGoldenHeads, photoWidth: Int, photoHeight: Int) throws -> [Int32] {
        let wrong = fault == "letterbox"
        try session.setPhoto(width: wrong ? 100 : photoWidth, height: wrong ? 40 : photoHeight)
        return try heads.semantic.withUnsafeBytes { s in
            try heads.center.withUnsafeBytes { c in
                try heads.offset.withUnsafeBytes { o in
                    try session.decode([s, c, o].map { Head(base: $0.baseAddress!, bytes: $0.count, dtype: .int8) }).ids
                }
            }
        }
    }
}

func makePanokitGoldenPipeline() -> any PanokitGoldenPipeline { App() }
