// What Apple.swift names of CoreGraphics; see CoreVideo.swift.
import Foundation

open class CGImage {
    public var width: Int { 0 }
    public var height: Int { 0 }
}
open class CGColorSpace {
    public static let sRGB = "sRGB"
    public init?(name: String) {}
}
public enum CGImageAlphaInfo: UInt32 { case none, premultipliedLast }
open class CGContext {
    public init?(
        data: UnsafeMutableRawPointer?, width: Int, height: Int, bitsPerComponent: Int, bytesPerRow: Int,
        space: CGColorSpace, bitmapInfo: UInt32
    ) {}
    public func draw(_ image: CGImage, in rect: CGRect) {}
    public var data: UnsafeMutableRawPointer? { nil }
    public var bytesPerRow: Int { 0 }
}
