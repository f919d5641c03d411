package panokit

import java.nio.ByteBuffer

/** The functions of the C core. Handles are its pointers; nobody else calls these. */
internal object Native {
    init {
        System.loadLibrary("panokit_jni")
    }

    @JvmStatic external fun open(manifest: ByteArray, artifact: ByteArray?): Long
    @JvmStatic external fun close(model: Long)
    @JvmStatic external fun texts(model: Long): Array<ByteArray>
    @JvmStatic external fun numbers(model: Long): IntArray
    @JvmStatic external fun inputBytes(model: Long): Long

    @JvmStatic external fun openSession(model: Long, maxPhotoSide: Int, matte: Boolean, explain: Boolean): Long
    @JvmStatic external fun closeSession(session: Long)
    @JvmStatic external fun preprocess(session: Long, numbers: IntArray, data: ByteBuffer, u: ByteBuffer?, v: ByteBuffer?)
    @JvmStatic external fun setPhoto(session: Long, width: Int, height: Int)
    @JvmStatic external fun transform(session: Long): IntArray
    @JvmStatic external fun input(session: Long, out: ByteBuffer)
    @JvmStatic external fun inputRgb(session: Long): ByteArray
    @JvmStatic external fun decode(session: Long, heads: Array<ByteBuffer>, numbers: IntArray)
    @JvmStatic external fun segments(session: Long): DoubleArray
    @JvmStatic external fun ids(session: Long, count: Int): IntArray
    @JvmStatic external fun photoIds(session: Long): IntArray
    @JvmStatic external fun idAt(session: Long, x: Int, y: Int): Int
    @JvmStatic external fun rle(session: Long, id: Int): ByteArray
    @JvmStatic external fun portrait(session: Long): IntArray
    @JvmStatic external fun matte(
        session: Long, numbers: IntArray, data: ByteBuffer, u: ByteBuffer?, v: ByteBuffer?, ids: IntArray,
    ): FloatArray

    @JvmStatic external fun explainFloats(session: Long, which: Int, count: Int): FloatArray
    @JvmStatic external fun explainInts(session: Long, which: Int, count: Int): IntArray
    @JvmStatic external fun dump(
        session: Long, path: ByteArray, heads: Array<ByteBuffer>?, numbers: IntArray, texts: Array<ByteArray>,
    )
}

/**
 * What the core refused: [status] as in panokit.h, a sentence as the message, and of a head that cannot be
 * decoded its index (0 semantic, 1 center, 2 offset) and [position] (row, column, channel).
 */
class PanokitException internal constructor(val status: Int, message: ByteArray, val head: Int, position: IntArray) :
    RuntimeException(message.toString(Charsets.UTF_8)) {
    val position: List<Int> = position.toList()
}
