// What Apple.swift names of Vision; see CoreVideo.swift.
import CoreML
import Foundation

open class VNCoreMLModel {}
open class VNRequest {}
public typealias VNRequestCompletionHandler = (VNRequest, Error?) -> Void
public enum VNImageCropAndScaleOption: UInt { case centerCrop, scaleFit, scaleFill }
open class VNCoreMLRequest: VNRequest {
    public init(model: VNCoreMLModel, completionHandler: VNRequestCompletionHandler? = nil) {}
    public var imageCropAndScaleOption: VNImageCropAndScaleOption = .centerCrop
}
open class VNObservation {}
open class VNCoreMLFeatureValueObservation: VNObservation {
    public var featureName: String { "" }
    public var featureValue: MLFeatureValue { fatalError("a stub") }
}
