import Foundation

@testable import Panokit

/// A tensor of a safetensors file.
struct Stored {
    var dtype: String
    var shape: [Int]
    var bytes: [UInt8]

    init(dtype: String, shape: [Int], bytes: [UInt8]) {
        (self.dtype, self.shape, self.bytes) = (dtype, shape, bytes)
    }

    init<T>(_ values: [T], _ dtype: String, _ shape: [Int]) {
        self.init(dtype: dtype, shape: shape, bytes: values.withUnsafeBytes { [UInt8]($0) })
    }

    var type: DType { ["U8": .uint8, "I8": .int8, "I16": .int16, "F16": .float16][dtype] ?? .float32 }
}

func readSafetensors(_ url: URL) throws -> [String: Stored] {
    let data = [UInt8](try Data(contentsOf: url))
    let length = (0..<8).reduce(0) { $0 | Int(data[$1]) << (8 * $1) }
    let json = try JSONSerialization.jsonObject(with: Data(data[8..<8 + length])) as? [String: Any] ?? [:]
    var tensors: [String: Stored] = [:]
    for (name, value) in json where name != "__metadata__" {
        guard let entry = value as? [String: Any], let ends = entry["data_offsets"] as? [Int] else { continue }
        tensors[name] = Stored(
            dtype: entry["dtype"] as? String ?? "", shape: entry["shape"] as? [Int] ?? [],
            bytes: Array(data[8 + length + ends[0]..<8 + length + ends[1]]))
    }
    return tensors
}

func writeSafetensors(_ url: URL, _ tensors: [String: Stored], _ texts: [String: String]) throws {
    var header: [String: Any] = ["__metadata__": texts]
    var offset = 0, body = Data()
    for (name, tensor) in tensors {
        header[name] = [
            "dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, offset + tensor.bytes.count],
        ] as [String: Any]
        offset += tensor.bytes.count
        body.append(contentsOf: tensor.bytes)
    }
    let json = try JSONSerialization.data(withJSONObject: header)
    var length = UInt64(json.count).littleEndian
    try (Data(bytes: &length, count: 8) + json + body).write(to: url)
}
