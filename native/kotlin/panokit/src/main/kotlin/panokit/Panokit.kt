package panokit

import java.io.Closeable
import java.io.File
import java.io.IOException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Types of tensors; the numbers are those of panokit.h. */
enum class DType(val bytes: Int) { U8(1), I8(1), I16(2), F16(2), F32(4) }

/** Layouts of tensors: channels last, channels first, or a platform image. */
enum class Layout { NHWC, NCHW, IMAGE }

/** A class: [id] 1 and up; things are countable objects, the rest is stuff. */
data class Category(val id: Int, val name: String, val isThing: Boolean)

/** A tensor at the artifact's border; whole numbers are real = (q - zeroPoint)·scale. */
data class TensorSpec(
    val dtype: DType, val layout: Layout, val height: Int, val width: Int, val channels: Int,
    val quantized: Boolean, val scale: Float, val zeroPoint: Int,
) {
    val bytes get() = height * width * channels * dtype.bytes
}

/** What the manifest says. Category i is channel i of the semantic head. */
class Info internal constructor(model: Long) {
    private val texts = Native.texts(model).map { it.toString(Charsets.UTF_8) }
    private val numbers = Native.numbers(model)
    val name = texts[0]
    val artifact = texts[1]
    val file = texts[2]
    val sha256 = texts[3]
    val precision = texts[4]
    val gridHeight = numbers[0]
    val gridWidth = numbers[1]
    val input = spec(0)
    val semantic = spec(1)
    val center = spec(2)
    val offset = spec(3)
    val categories = List(texts.size - 5) { Category(numbers[34 + 2 * it], texts[5 + it], numbers[35 + 2 * it] != 0) }
    internal val heads = listOf(semantic, center, offset)

    private fun spec(i: Int): TensorSpec {
        val n = numbers.copyOfRange(2 + 8 * i, 10 + 8 * i)
        return TensorSpec(
            DType.entries[n[0]], Layout.entries[n[1]], n[2], n[3], n[4], n[6] != 0, Float.fromBits(n[7]), n[5],
        )
    }
}

/** How a photo lies in the input, in pixels. */
data class Transform(
    val photoWidth: Int, val photoHeight: Int, val inputWidth: Int, val inputHeight: Int,
    val contentWidth: Int, val contentHeight: Int, val left: Int, val top: Int,
)

/**
 * A raw head as the runtime left it, in a direct buffer. Strides are elements from one row, column and channel to
 * the next; 0, 0, 0 is dense in the manifest's layout.
 */
class Head(
    val data: ByteBuffer, val dtype: DType, val rowStride: Int = 0, val columnStride: Int = 0, val channelStride: Int = 0,
)

/** One object or region. [box] is left, top, right, bottom in photo pixels, ends exclusive. */
data class Segment(
    val id: Int, val category: Category, val channel: Int, val score: Double, val area: Int,
    val centerX: Float?, val centerY: Float?, val photoArea: Long, val box: List<Int>,
)

/** The app's network: an input tensor (direct, native order) to the heads semantic, center and offset. */
fun interface Network {
    fun run(input: ByteBuffer): List<Head>
}

/**
 * A bundle's artifact. Many threads may share it, each with a [Session] of its own.
 *
 *     Panokit.open(File(folder, "camera.panokit")).use { panokit ->
 *         panokit.session(network).use { session ->
 *             val result = session.segment(picture)
 *             result.segments.forEach { println("${it.category.name} ${it.box}") }
 *             session.dump(File(folder, "photo.safetensors"), mapOf("device" to Build.MODEL))
 *         }
 *     }
 */
class Panokit private constructor(manifest: ByteArray, artifact: String?) : Closeable {
    private var handle = Native.open(manifest, artifact?.toByteArray())
    val info = Info(handle)
    internal val model get() = handle.also { check(it != 0L) { "this Panokit is closed" } }

    /**
     * Working memory for one thread at a time; close it before the Panokit. [matte] makes room for mattes (25 MB).
     */
    fun session(network: Network? = null, matte: Boolean = false, maxPhotoSide: Int = 0) =
        Session(this, network, matte, maxPhotoSide, false)

    override fun close() {
        Native.close(handle)
        handle = 0
    }

    companion object {
        /** The bundle in a folder; without [artifact] the first TFLite one, int8 before others. */
        fun open(bundle: File, artifact: String? = null) = open(File(bundle, "manifest.json").readBytes(), artifact)

        /** The bundle whose manifest.json holds these bytes (from the app's assets, say). */
        fun open(manifest: ByteArray, artifact: String? = null) = Panokit(manifest, artifact)
    }
}

/** Segments photos, one after the other. The result of the last one stays until the next. */
class Session internal constructor(
    private val panokit: Panokit, private val network: Network?, matte: Boolean, maxPhotoSide: Int, explain: Boolean,
) : Closeable {
    private var opened = Native.openSession(panokit.model, maxPhotoSide, matte, explain)
    private var heads: List<Head>? = null
    private val info = panokit.info
    internal val handle get() = opened.also { check(it != 0L) { "this Session is closed" } }

    /** The input tensor, filled by [preprocess]: direct, native order. */
    val input: ByteBuffer = ByteBuffer.allocateDirect(Native.inputBytes(panokit.model).toInt()).order(ByteOrder.nativeOrder())

    /** Picture to result, by the network that the session was made with. */
    fun segment(picture: Picture): Result {
        val run = checkNotNull(network) { "this session has no network: use preprocess and decode" }
        preprocess(picture)
        return decode(run.run(input))
    }

    /** Picture to [input]. */
    fun preprocess(picture: Picture): Transform {
        heads = null
        Native.preprocess(handle, picture.numbers, picture.data, picture.u, picture.v)
        input.clear()
        Native.input(handle, input)
        return transform
    }

    /** For heads of an input that was made elsewhere: the size of the upright photo. */
    fun setPhoto(width: Int, height: Int) {
        heads = null
        Native.setPhoto(handle, width, height)
    }

    val transform: Transform
        get() {
            val n = Native.transform(handle)
            check(n.isNotEmpty()) { "there is no photo yet" }
            return Transform(n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7])
        }

    /** Heads (semantic, center, offset) to result. */
    fun decode(heads: List<Head>): Result {
        require(heads.size == 3) { "expected the heads semantic, center and offset, got ${heads.size}" }
        this.heads = null
        Native.decode(handle, heads.buffers(), heads.numbers())
        this.heads = heads
        return Result(this, info)
    }

    /** The soft matte of some segments, 0..1, row by row on the upright photo. */
    fun matte(picture: Picture, ids: Collection<Int>): FloatArray =
        Native.matte(handle, picture.numbers, picture.data, picture.u, picture.v, ids.toIntArray())

    /**
     * What was computed for the last photo, as a file for `panokit validate`: input, raw heads and map. [texts] say
     * what computed it: device, os, app, runtime, delegate, photo. The file appears when it is whole.
     */
    fun dump(file: File, texts: Map<String, String> = emptyMap()) {
        val partial = File(file.path + ".part")
        val kept = heads?.mapIndexed { i, head -> head.dense(info.heads[i]) }
        val words = texts.flatMap { (key, value) -> listOf(key.toByteArray(), value.toByteArray()) }
        val path = partial.path.toByteArray()
        try {
            Native.dump(handle, path, kept?.buffers(), (kept ?: emptyList()).numbers(), words.toTypedArray())
            if (!partial.renameTo(file)) throw IOException("$partial cannot be renamed to $file")
        } finally {
            partial.delete()
        }
    }

    override fun close() {
        Native.closeSession(opened)
        opened = 0
    }
}

/** A segmented photo; valid until the session's next. */
class Result internal constructor(private val session: Session, private val info: Info) {
    /** In id order: things by their centres' scores, then stuff by category id. */
    val segments: List<Segment> = Native.segments(session.handle).toList().chunked(12) { n ->
        val category = info.categories[n[1].toInt()]
        Segment(
            n[0].toInt(), category, n[1].toInt(), n[3], n[4].toInt(), n[6].toFloat().takeIf { category.isThing },
            n[5].toFloat().takeIf { category.isThing }, n[7].toLong(), List(4) { n[8 + it].toInt() },
        )
    }

    /** The map on the decode grid, row by row; 0 is void. */
    val ids: IntArray by lazy { Native.ids(session.handle, info.gridHeight * info.gridWidth) }

    /** The map on the upright photo, row by row. */
    val photoIds: IntArray by lazy { Native.photoIds(session.handle) }

    /** The segment at a photo pixel; null on void and outside. */
    fun at(x: Int, y: Int): Segment? = Native.idAt(session.handle, x, y).takeIf { it > 0 }?.let { segments[it - 1] }

    /** Objects per thing class, by name. */
    val counts: Map<String, Int>
        get() = segments.filter { it.category.isThing && it.photoArea > 0 }.groupingBy { it.category.name }.eachCount()

    /** The mask of a segment as COCO's compressed run lengths. */
    fun rle(id: Int): String = Native.rle(session.handle, id).toString(Charsets.US_ASCII)

    /** Ids of all persons and of what they wear or hold: what a portrait keeps sharp. */
    val portrait: List<Int> get() = Native.portrait(session.handle).toList()
}

private fun List<Head>.buffers() = Array(size) { this[it].data }

private fun List<Head>.numbers() = IntArray(12).also {
    forEachIndexed { i, head ->
        it[4 * i] = head.dtype.ordinal
        it[4 * i + 1] = head.rowStride
        it[4 * i + 2] = head.columnStride
        it[4 * i + 3] = head.channelStride
    }
}

/** The head dense and channels last, as a dump holds it. */
private fun Head.dense(spec: TensorSpec): Head {
    val strided = rowStride != 0 || columnStride != 0 || channelStride != 0
    if (!strided && (spec.layout != Layout.NCHW || spec.channels == 1)) return this
    val row = if (strided) rowStride else spec.width
    val column = if (strided) columnStride else 1
    val channel = if (strided) channelStride else spec.height * spec.width
    val out = ByteBuffer.allocateDirect(spec.height * spec.width * spec.channels * dtype.bytes)
    for (y in 0 until spec.height) for (x in 0 until spec.width) for (c in 0 until spec.channels) {
        val at = (y * row + x * column + c * channel) * dtype.bytes
        repeat(dtype.bytes) { out.put(data.get(at + it)) }
    }
    return Head(out, dtype)
}
