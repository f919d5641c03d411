// swift-tools-version:5.9
import PackageDescription

// The core's pragma keeps clang from fusing multiply-adds; a package with unsafeFlags could be no
// dependency of another.
let package = Package(
    name: "Panokit",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "Panokit", targets: ["Panokit"])],
    targets: [
        .target(
            name: "CPanokit", path: "core", exclude: ["tests", "fuzz", "examples", "CMakeLists.txt"],
            sources: ["src"], publicHeadersPath: "include", cSettings: [.headerSearchPath("src")]),
        .target(name: "Panokit", dependencies: ["CPanokit"], path: "swift/Sources/Panokit"),
        .testTarget(name: "PanokitTests", dependencies: ["Panokit", "CPanokit"], path: "swift/Tests/PanokitTests"),
    ]
)
