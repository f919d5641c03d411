// Write a Panokit device dump (safetensors) in Swift; needs Foundation only.
//
// let dump = Dump(metadata: ["runtime": "coreml", "device": "iPhone 15 Pro"])
// dump.add("semantic", "F32", [80, 80, 26], values)       // [Float], row by row, channels last
// try dump.write(to: folder.appendingPathComponent("photo.safetensors"))
//
// A Core ML MLMultiArray has strides: copy it element by element into a [Float] first, and from
// [1, C, h, w] to [h, w, C].
import Foundation

final class Dump {
    private var entries: [(name: String, dtype: String, shape: [Int], bytes: Data)] = []
    private var metadata: [String: String]

    init(metadata: [String: String] = [:]) {
        self.metadata = metadata
        self.metadata["format"] = "panokit-dump/1"
    }

    /// dtype: "U8", "I8", "I16", "I32", "F16" or "F32", as the values are.
    func add<T>(_ name: String, _ dtype: String, _ shape: [Int], _ values: [T]) {
        precondition(values.count == shape.reduce(1, *), "\(name): shape does not fit")
        // Apple's processors are little-endian, as the format is.
        entries.append((name, dtype, shape, values.withUnsafeBytes { Data($0) }))
    }

    func write(to url: URL) throws {
        var header: [String: Any] = ["__metadata__": metadata]
        var offset = 0
        for e in entries {
            header[e.name] = ["dtype": e.dtype, "shape": e.shape,
                              "data_offsets": [offset, offset + e.bytes.count]] as [String: Any]
            offset += e.bytes.count
        }
        var json = try JSONSerialization.data(withJSONObject: header)
        while json.count % 8 != 0 { json.append(0x20) }  // numbers start at a multiple of 8
        var length = UInt64(json.count).littleEndian
        var file = Data(bytes: &length, count: 8)
        file.append(json)
        for e in entries { file.append(e.bytes) }
        try file.write(to: url, options: .atomic)
    }
}
