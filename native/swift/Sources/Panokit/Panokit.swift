import CPanokit
import Foundation

/// What the core refused: its code as in panokit.h, a sentence, and of a head that cannot be decoded
/// its index (0 semantic, 1 center, 2 offset) and position (row, column, channel).
public struct PanokitError: Error, CustomStringConvertible {
    public let status: Int
    public let description: String
    public let head: Int?
    public let position: [Int]?

    init(_ error: panokit_error) {
        var copy = error
        status = Int(copy.status.rawValue)
        description = withUnsafeBytes(of: &copy.message) { raw in
            String(decoding: raw.prefix { $0 != 0 }, as: UTF8.self)
        }
        head = copy.head < 0 ? nil : Int(copy.head)
        let (row, column, channel) = copy.position
        position = copy.has_position == 0 ? nil : [Int(row), Int(column), Int(channel)]
    }

    static func check(_ call: (UnsafeMutablePointer<panokit_error>) -> panokit_status) throws {
        var error = panokit_error()
        if call(&error) != PANOKIT_OK { throw PanokitError(error) }
    }
}

/// Types of tensors, numbered as in panokit.h.
public enum DType: UInt32 {
    case uint8 = 0, int8, int16, float16, float32

    public var bytes: Int { self == .float32 ? 4 : self == .int16 || self == .float16 ? 2 : 1 }
}

/// A class; things are countable objects, the rest is stuff.
public struct Category: Equatable {
    public let id: Int
    public let name: String
    public let isThing: Bool
}

/// A tensor at the artifact's border; whole numbers are real = (q - zeroPoint) * scale.
public struct TensorSpec {
    public let name: String
    public let dtype: DType
    public let channelsFirst: Bool
    public let height, width, channels: Int
    public let scale: Float?
    public let zeroPoint: Int

    init(_ spec: panokit_tensor_spec) {
        name = String(cString: spec.name)
        dtype = DType(rawValue: spec.dtype.rawValue) ?? .float32
        channelsFirst = spec.layout == PANOKIT_NCHW
        (height, width, channels) = (Int(spec.height), Int(spec.width), Int(spec.channels))
        scale = spec.quantized == 0 ? nil : spec.scale
        zeroPoint = Int(spec.zero_point)
    }
}

/// A bundle's artifact. Many threads may share it, each with a ``Session`` of its own.
///
///     let panokit = try Panokit(bundle: url)
///     let session = try panokit.session()
///     try session.preprocess(picture)
///     let result = try session.decode(heads)   // what the app's network made of session.input()
public final class Panokit: @unchecked Sendable {
    let model: OpaquePointer
    public let name, artifact, file: String
    public let categories: [Category]
    public let input: TensorSpec
    /// semantic, center, offset
    public let heads: [TensorSpec]
    public let gridWidth, gridHeight: Int

    /// The bundle in a folder; without `artifact` the first TFLite one, int8 before others.
    public convenience init(bundle: URL, artifact: String? = nil) throws {
        try self.init(manifest: Data(contentsOf: bundle.appendingPathComponent("manifest.json")), artifact: artifact)
    }

    /// The bundle whose manifest.json holds this.
    public init(manifest: Data, artifact: String? = nil) throws {
        var opened: OpaquePointer?
        try manifest.withUnsafeBytes { raw in
            let text = raw.bindMemory(to: CChar.self).baseAddress
            try PanokitError.check { error in
                guard let artifact else { return panokit_open(text, raw.count, nil, &opened, error) }
                return artifact.withCString { panokit_open(text, raw.count, $0, &opened, error) }
            }
        }
        model = opened!
        let info = panokit_model_info(model)!.pointee
        name = String(cString: info.name)
        self.artifact = String(cString: info.artifact)
        file = String(cString: info.file)
        categories = (0..<Int(info.category_count)).map {
            let category = info.categories[$0]
            return Category(id: Int(category.id), name: String(cString: category.name), isThing: category.is_thing != 0)
        }
        input = TensorSpec(info.input)
        heads = [TensorSpec(info.heads.0), TensorSpec(info.heads.1), TensorSpec(info.heads.2)]
        (gridWidth, gridHeight) = (Int(info.grid_width), Int(info.grid_height))
    }

    deinit { panokit_close(model) }

    /// Working memory for one thread at a time; `matte` makes room for mattes (25 MB).
    public func session(matte: Bool = false, maxPhotoSide: Int = 0) throws -> Session {
        try Session(self, matte: matte, maxPhotoSide: maxPhotoSide, explain: false)
    }
}
