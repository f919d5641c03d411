package panokit

import java.nio.ByteBuffer

/** How the bytes of a picture lie; the numbers are those of panokit.h. */
enum class PixelFormat { RGB8, RGBX8, BGRX8, RGBA8, BGRA8, YUV420 }

/** The matrix that a camera buffer declares. */
enum class YuvMatrix { BT601, BT709 }

/**
 * A picture in direct buffers, in sRGB. [width] and [height] are those of the buffer, before [orientation] (EXIF,
 * 1..8) turns it upright. Strides are bytes. Make one with [rgb], [rgba] or [yuv].
 */
class Picture private constructor(
    val width: Int,
    val height: Int,
    val orientation: Int,
    internal val data: ByteBuffer,
    internal val u: ByteBuffer?,
    internal val v: ByteBuffer?,
    internal val numbers: IntArray,
) {
    companion object {
        /** RGB, three bytes a pixel. */
        fun rgb(data: ByteBuffer, width: Int, height: Int, rowStride: Int = 3 * width, orientation: Int = 1) =
            packed(PixelFormat.RGB8, data, width, height, rowStride, orientation)

        /**
         * Four bytes a pixel. RGBX8 and BGRX8 leave the fourth out: opaque pictures, and those whose alpha is
         * already multiplied in, as Android's bitmaps are. RGBA8 and BGRA8 are composited over black.
         */
        fun packed(
            format: PixelFormat, data: ByteBuffer, width: Int, height: Int, rowStride: Int, orientation: Int = 1,
        ): Picture {
            require(format != PixelFormat.YUV420) { "a YUV picture has three planes: use Picture.yuv" }
            val numbers = intArrayOf(format.ordinal, width, height, orientation, rowStride, 0, 0, 0, 0, 0, 0, 0)
            return Picture(width, height, orientation, data, null, null, numbers)
        }

        /**
         * YUV 4:2:0 as `ImageProxy` and `android.media.Image` have it: three planes, [chromaRowStride] and
         * [chromaStep] (the pixel stride: 1 planar, 2 interleaved) of U and V.
         */
        fun yuv(
            y: ByteBuffer, u: ByteBuffer, v: ByteBuffer, width: Int, height: Int, rowStride: Int,
            chromaRowStride: Int, chromaStep: Int, fullRange: Boolean, matrix: YuvMatrix, orientation: Int = 1,
        ): Picture {
            val numbers = intArrayOf(
                PixelFormat.YUV420.ordinal, width, height, orientation, rowStride, chromaRowStride, chromaStep,
                if (fullRange) 1 else 0, matrix.ordinal, 0, 0, 0,
            )
            return Picture(width, height, orientation, y, u, v, numbers)
        }
    }
}
