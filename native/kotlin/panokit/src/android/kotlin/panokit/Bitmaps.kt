package panokit

import android.graphics.Bitmap
import java.nio.ByteBuffer

/** A bitmap of the configuration ARGB_8888; its alpha is multiplied in already. */
fun Bitmap.toPicture(orientation: Int = 1): Picture {
    require(config == Bitmap.Config.ARGB_8888) { "expected ARGB_8888, got $config: copy(Bitmap.Config.ARGB_8888, false)" }
    val pixels = ByteBuffer.allocateDirect(rowBytes * height)
    copyPixelsToBuffer(pixels)
    return Picture.packed(PixelFormat.RGBX8, pixels, width, height, rowBytes, orientation)
}

/** Segment a bitmap. */
fun Session.segment(bitmap: Bitmap): Result = segment(bitmap.toPicture())
