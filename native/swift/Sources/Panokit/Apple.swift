// What only Apple's systems have. Thin on purpose: strides and orders are told, nothing is computed.
import Foundation

#if canImport(CoreVideo)
import CoreVideo

extension CVPixelBuffer {
    /// The buffer as a picture while `body` runs: BGRA, or biplanar YUV of video or full range.
    /// The matrix is the one that the buffer's attachment names, BT.709 without one.
    public func withPicture<R>(orientation: Int = 1, _ body: (Picture) throws -> R) throws -> R {
        CVPixelBufferLockBaseAddress(self, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(self, .readOnly) }
        let width = CVPixelBufferGetWidth(self), height = CVPixelBufferGetHeight(self)
        let format = CVPixelBufferGetPixelFormatType(self)
        if format == kCVPixelFormatType_32BGRA, let base = CVPixelBufferGetBaseAddress(self) {
            let stride = CVPixelBufferGetBytesPerRow(self)
            return try body(
                Picture(
                    format: .bgrx, base: base, width: width, height: height, rowStride: stride,
                    orientation: orientation))
        }
        let full = format == kCVPixelFormatType_420YpCbCr8BiPlanarFullRange
        guard full || format == kCVPixelFormatType_420YpCbCr8BiPlanarVideoRange,
            let y = CVPixelBufferGetBaseAddressOfPlane(self, 0), let uv = CVPixelBufferGetBaseAddressOfPlane(self, 1)
        else { throw UnsupportedPixelFormat(format: format) }
        let matrix = CVBufferCopyAttachment(self, kCVImageBufferYCbCrMatrixKey, nil) as? String
        let is601 = matrix == (kCVImageBufferYCbCrMatrix_ITU_R_601_4 as String)
        return try body(
            Picture(
                y: y, u: uv, v: uv + 1, width: width, height: height,
                rowStride: CVPixelBufferGetBytesPerRowOfPlane(self, 0),
                chromaRowStride: CVPixelBufferGetBytesPerRowOfPlane(self, 1), chromaStep: 2, fullRange: full,
                bt709: !is601, orientation: orientation))
    }
}

/// A pixel buffer that is neither BGRA nor 8-bit biplanar YUV.
public struct UnsupportedPixelFormat: Error {
    public let format: OSType
}
#endif

#if canImport(CoreGraphics)
import CoreGraphics

extension CGImage {
    /// The image in sRGB as a picture while `body` runs; alpha is multiplied in, so transparent is black.
    public func withPicture<R>(orientation: Int = 1, _ body: (Picture) throws -> R) rethrows -> R? {
        guard let space = CGColorSpace(name: CGColorSpace.sRGB),
            let context = CGContext(
                data: nil, width: width, height: height, bitsPerComponent: 8, bytesPerRow: 0, space: space,
                bitmapInfo: CGImageAlphaInfo.premultipliedLast.rawValue)
        else { return nil }
        context.draw(self, in: CGRect(x: 0, y: 0, width: width, height: height))
        guard let base = context.data else { return nil }
        return try body(
            Picture(
                format: .rgbx, base: base, width: width, height: height, rowStride: context.bytesPerRow,
                orientation: orientation))
    }
}
#endif

#if canImport(CoreML)
import CoreML

extension Head {
    /// A head as Core ML gives it, [1,C,h,w], with its strides; Float16 and Float32. The array must stay
    /// until `decode` returns.
    public init?(_ array: MLMultiArray) {
        let shape = array.shape.map(\.intValue), strides = array.strides.map(\.intValue)
        guard shape.count == 4, shape[0] == 1, array.dataType == .float32 || array.dataType == .float16 else { return nil }
        let dtype: DType = array.dataType == .float32 ? .float32 : .float16
        let last = zip(shape, strides).reduce(0) { $0 + ($1.0 - 1) * $1.1 }
        self.init(
            base: UnsafeRawPointer(array.dataPointer), bytes: (last + 1) * dtype.bytes, dtype: dtype,
            rowStride: strides[2], columnStride: strides[3], channelStride: strides[1])
    }
}
#endif

#if canImport(Vision) && canImport(CoreML)
import Vision

extension Session {
    /// A Vision request whose input is letterboxed as Panokit does it (`scaleFit`); give `decode` the
    /// observations' arrays, named as the manifest's heads.
    public static func request(
        for model: VNCoreMLModel, completion: @escaping VNRequestCompletionHandler
    ) -> VNCoreMLRequest {
        let request = VNCoreMLRequest(model: model, completionHandler: completion)
        request.imageCropAndScaleOption = .scaleFit
        return request
    }

    /// The result of a Vision request on a photo of this upright size.
    public func decode(_ observations: [VNObservation], photoWidth: Int, photoHeight: Int) throws -> Result? {
        var arrays: [String: MLMultiArray] = [:]
        for case let observation as VNCoreMLFeatureValueObservation in observations {
            arrays[observation.featureName] = observation.featureValue.multiArrayValue
        }
        let heads = panokit.heads.compactMap { arrays[$0.name].flatMap { Head($0) } }
        guard heads.count == 3 else { return nil }
        try setPhoto(width: photoWidth, height: photoHeight)
        return try decode(heads, keep: true)
    }
}
#endif
