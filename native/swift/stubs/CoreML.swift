// What Apple.swift names of CoreML; see CoreVideo.swift.
import Foundation

public enum MLMultiArrayDataType: Int { case double, float32, float16, int32 }
open class MLMultiArray {
    public var shape: [NSNumber] { [] }
    public var strides: [NSNumber] { [] }
    public var dataType: MLMultiArrayDataType { .float16 }
    public var dataPointer: UnsafeMutableRawPointer { fatalError("a stub") }
}
open class MLFeatureValue {
    public var multiArrayValue: MLMultiArray? { nil }
}
