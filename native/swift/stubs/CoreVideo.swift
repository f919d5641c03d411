// What Apple.swift names of CoreVideo, so that its types are checked where there is no CoreVideo.
// It proves what it says and no more.
import Foundation

public typealias OSType = UInt32
public typealias CVReturn = Int32
open class CVBuffer {}
open class CVPixelBuffer: CVBuffer {}
public struct CVPixelBufferLockFlags: OptionSet, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static let readOnly = CVPixelBufferLockFlags(rawValue: 1)
}
public enum CVAttachmentMode { case shouldNotPropagate, shouldPropagate }
public let kCVPixelFormatType_32BGRA: OSType = 1
public let kCVPixelFormatType_420YpCbCr8BiPlanarFullRange: OSType = 2
public let kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange: OSType = 3
public let kCVImageBufferYCbCrMatrixKey = "matrix"
public let kCVImageBufferYCbCrMatrix_ITU_R_601_4 = "601"
@discardableResult
public func CVPixelBufferLockBaseAddress(_ b: CVPixelBuffer, _ f: CVPixelBufferLockFlags) -> CVReturn { 0 }
@discardableResult
public func CVPixelBufferUnlockBaseAddress(_ b: CVPixelBuffer, _ f: CVPixelBufferLockFlags) -> CVReturn { 0 }
public func CVPixelBufferGetWidth(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetHeight(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetPixelFormatType(_ b: CVPixelBuffer) -> OSType { 0 }
public func CVPixelBufferGetBaseAddress(_ b: CVPixelBuffer) -> UnsafeMutableRawPointer? { nil }
public func CVPixelBufferGetBytesPerRow(_ b: CVPixelBuffer) -> Int { 0 }
public func CVPixelBufferGetBaseAddressOfPlane(_ b: CVPixelBuffer, _ p: Int) -> UnsafeMutableRawPointer? { nil }
public func CVPixelBufferGetBytesPerRowOfPlane(_ b: CVPixelBuffer, _ p: Int) -> Int { 0 }
public func CVBufferCopyAttachment(
    _ b: CVBuffer, _ k: String, _ m: UnsafeMutablePointer<CVAttachmentMode>?
) -> AnyObject? { nil }
