package panokit

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** A tensor of a safetensors file. */
class Stored(val dtype: String, val shape: List<Int>, val data: ByteBuffer)

fun readSafetensors(file: File): Map<String, Stored> {
    val bytes = ByteBuffer.wrap(file.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
    val length = bytes.getLong(0).toInt()
    val header = Json.map(String(bytes.array(), 8, length, Charsets.UTF_8))
    return header.filterKeys { it != "__metadata__" }.mapValues { (_, entry) ->
        entry as Map<*, *>
        val (from, to) = (entry["data_offsets"] as List<*>).map { (it as Double).toInt() }
        val data = ByteBuffer.allocateDirect(to - from).order(ByteOrder.nativeOrder())
        data.put(bytes.array(), 8 + length + from, to - from)
        Stored(entry["dtype"] as String, (entry["shape"] as List<*>).map { (it as Double).toInt() }, data)
    }
}

fun writeSafetensors(file: File, tensors: Map<String, Stored>, texts: Map<String, String>) {
    var offset = 0
    val entries = texts.entries.joinToString { "${quoted(it.key)}: ${quoted(it.value)}" }
    val parts = tensors.map { (name, t) ->
        val end = offset + t.data.capacity()
        "\"$name\": {\"dtype\": \"${t.dtype}\", \"shape\": ${t.shape}, \"data_offsets\": [$offset, $end]}".also { offset = end }
    }
    val header = (listOf("\"__metadata__\": {$entries}") + parts).joinToString(prefix = "{", postfix = "}").toByteArray()
    file.outputStream().use { out ->
        out.write(ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(header.size.toLong()).array())
        out.write(header)
        tensors.values.forEach { t -> out.write(ByteArray(t.data.capacity()).also { t.data.duplicate().apply { clear() }.get(it) }) }
    }
}

fun quoted(text: String) = "\"" + text.replace("\\", "\\\\").replace("\"", "\\\"") + "\""

fun stored(values: IntArray, vararg shape: Int) = Stored(
    "I32", shape.toList(),
    ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).apply { values.forEach { putInt(it) } },
)

fun stored(values: FloatArray, vararg shape: Int) = Stored(
    "F32", shape.toList(),
    ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN).apply { values.forEach { putFloat(it) } },
)

private val names = listOf("semantic", "center", "offset")
private val numpy = mapOf("U8" to "uint8", "I8" to "int8", "I16" to "int16", "F16" to "float16", "F32" to "float32")

private fun tensor(name: String, dtype: String, shape: List<Int>, quantization: Map<*, *>?): String {
    val scale = quantization?.let { ", \"scale\": ${it["scale"]}, \"zero_point\": ${(it["zero_point"] as Double).toInt()}" } ?: ""
    return "{\"name\": \"$name\", \"shape\": ${listOf(1) + shape}, \"dtype\": \"$dtype\", \"layout\": \"nhwc\"$scale}"
}

private fun manifest(w: Int, h: Int, categories: String, post: String, input: String, heads: List<String>) = """
    {"schema_version": 1, "name": "case", "preprocessing": {"size_wh": [$w, $h]}, "postprocessing": $post,
     "taxonomy": {"categories": [$categories]}, "artifacts": [{"name": "a", "format": "tflite", "file": "a",
     "sha256": "", "precision": "", "input": $input,
     "outputs": {${names.zip(heads).joinToString { (n, t) -> "\"$n\": $t" }}}}]}""".toByteArray()

private fun json(value: Any?): String = when (value) {
    is Map<*, *> -> value.entries.joinToString(prefix = "{", postfix = "}") { "\"${it.key}\": ${json(it.value)}" }
    is String -> quoted(value)
    is Double -> if (value == Math.rint(value)) value.toLong().toString() else value.toString()
    else -> value.toString()
}

private fun ints(value: Any?) = (value as List<*>).map { (it as Double).toInt() }

private fun preprocessCase(case: Map<*, *>, tensors: Map<String, Stored>, out: File) {
    val photo = tensors.getValue("in.photo")
    val (w, h) = ints(case["size_wh"])
    val quantization = case["quantization"] as Map<*, *>
    val dtype = quantization["dtype"] as String
    val heads = List(3) { tensor(names[it], "float32", listOf(1, 1, if (it == 2) 2 else 1), null) }
    val input = tensor("image", dtype, listOf(h, w, 3), quantization)
    Panokit.open(manifest(w, h, "{\"id\": 1, \"name\": \"a\"}", "{}", input, heads)).use { panokit ->
        panokit.session().use { session ->
            val t = session.preprocess(Picture.rgb(photo.data, photo.shape[1], photo.shape[0]))
            val type = numpy.entries.first { it.value == dtype }.key
            val rgb = Native.inputRgb(session.handle)
            val found = mapOf(
                "input" to Stored("U8", listOf(h, w, 3), ByteBuffer.wrap(rgb)),
                "quantized" to Stored(type, listOf(h, w, 3), session.input),
            )
            val transform = "{\"photo_wh\": [${t.photoWidth}, ${t.photoHeight}], \"input_wh\": [${t.inputWidth}, " +
                "${t.inputHeight}], \"content_wh\": [${t.contentWidth}, ${t.contentHeight}], \"left\": ${t.left}, " +
                "\"top\": ${t.top}}"
            writeSafetensors(out, found, mapOf("transform" to transform))
        }
    }
}

private fun decodeCase(case: Map<*, *>, tensors: Map<String, Stored>, out: File) {
    val transform = case["transform"] as Map<*, *>
    val (w, h) = ints(transform["input_wh"])
    val (photoW, photoH) = ints(transform["photo_wh"])
    val raw = names.map { tensors.getValue("in.$it") }
    val quantization = case["quantization"] as Map<*, *>
    val heads = names.indices.map { tensor(names[it], numpy.getValue(raw[it].dtype), raw[it].shape, quantization[names[it]] as Map<*, *>?) }
    val categories = (case["taxonomy"] as List<*>).withIndex().joinToString { (i, c) ->
        c as Map<*, *>
        "{\"id\": ${json(c["id"])}, \"name\": \"c$i\", \"isthing\": ${json(c["isthing"])}}"
    }
    val input = tensor("image", "uint8", listOf(h, w, 3), null)
    Panokit.open(manifest(w, h, categories, json(case["postprocessing"]), input, heads)).use { panokit ->
        Session(panokit, null, false, 0, true).use { session ->
            session.setPhoto(photoW, photoH)
            try {
                val result = session.decode(raw.map { Head(it.data, DType.valueOf(it.dtype)) })
                writeSafetensors(out, stages(panokit.info, session, result, photoW, photoH), mapOf("segments" to segments(result)))
            } catch (error: PanokitException) {
                val position = if (error.head == 1) error.position.dropLast(1) else error.position
                val told = "{\"head\": \"${names[error.head]}\", \"position\": $position}"
                writeSafetensors(out, emptyMap(), mapOf("error" to told))
            }
        }
    }
}

private fun stages(info: Info, session: Session, result: Result, photoW: Int, photoH: Int): Map<String, Stored> {
    val (h, w) = info.semantic.run { height to width }
    val (gridH, gridW) = info.gridHeight to info.gridWidth
    val n = info.semantic.channels
    fun floats(which: Int, vararg shape: Int) =
        stored(Native.explainFloats(session.handle, which, shape.fold(1, Int::times)), *shape)
    fun ints(which: Int) = stored(Native.explainInts(session.handle, which, gridH * gridW), gridH, gridW)
    val centers = Native.explainInts(session.handle, 2, 0)
    val scores = Native.explainFloats(session.handle, 6, 0)
    return mapOf(
        "real.semantic" to floats(0, h, w, n), "real.center" to floats(1, h, w), "real.offset" to floats(2, h, w, 2),
        "semantic" to floats(3, gridH, gridW, n), "offset" to floats(4, gridH, gridW, 2), "class_map" to ints(0),
        "scores" to floats(5, h, w), "centers" to stored(centers, centers.size / 2, 2),
        "center_scores" to stored(scores, scores.size), "votes" to ints(1),
        "ids" to stored(result.ids, gridH, gridW), "photo_ids" to stored(result.photoIds, photoH, photoW),
    )
}

private fun segments(result: Result) = result.segments.joinToString(prefix = "[", postfix = "]") { s ->
    val center = s.centerY?.let { "[${it.toDouble()}, ${s.centerX!!.toDouble()}]" } ?: "null"
    "{\"id\": ${s.id}, \"category_id\": ${s.category.id}, \"isthing\": ${if (s.category.isThing) 1 else 0}, " +
        "\"area\": ${s.area}, \"score\": ${s.score}, \"center_yx\": $center}"
}

/** All cases of a suite of golden vectors, for `panokit vectors check SUITE RESULTS`. */
fun computeVectors(suite: File, results: File): Int {
    val cases = Json.map(File(suite, "suite.json").readText())["cases"] as List<*>
    for (case in cases) {
        case as Map<*, *>
        val file = case["file"] as String
        val compute = if (case["kind"] == "preprocess") ::preprocessCase else ::decodeCase
        compute(case, readSafetensors(File(suite, file)), File(results, file))
    }
    return cases.size
}

private fun direct(file: File): ByteBuffer = file.readBytes().let { bytes ->
    ByteBuffer.allocateDirect(bytes.size).apply { put(bytes) }
}

/** A head of a runtime whose rows end with 16 values of padding (0 when real); `ignored`: the app reads it as if they did not. */
private fun paddedHead(file: File, spec: TensorSpec, ignored: Boolean): Head {
    val row = spec.width * spec.channels
    val buffer = ByteBuffer.allocateDirect(spec.height * (row + 16))
    for (i in 0 until buffer.capacity()) buffer.put(i, spec.zeroPoint.toByte())
    if (file.exists()) file.readBytes().forEachIndexed { i, value -> buffer.put(i / row * (row + 16) + i % row, value) }
    if (!ignored) return Head(buffer, spec.dtype, row + 16, spec.channels, 1)
    return Head(ByteBuffer.allocateDirect(spec.bytes).apply { put(buffer.duplicate().apply { limit(spec.bytes) }) }, spec.dtype)
}

/**
 * A camera picture to an input, and, when `semantic.bin`, `center.bin` and `offset.bin` lie in the folder, on to a
 * dump. The folder has `y.bin`, `u.bin` and `v.bin`; `fault` is what the app does wrong.
 */
fun cameraApp(bundle: File, folder: File, width: Int, height: Int, fault: String) {
    val (y, u, v) = listOf("y", "u", "v").map { direct(File(folder, "$it.bin")) }
    val rowStride = y.capacity() / height
    val chroma = u.capacity() / ((height + 1) / 2)
    val swapped = fault == "uv"
    val picture = Picture.yuv(
        y, if (swapped) v else u, if (swapped) u else v, width, height, rowStride, chroma, 1, false, YuvMatrix.BT601,
    )
    Panokit.open(bundle).use { panokit ->
        val network = Network { input ->
            File(folder, "input.bin").writeBytes(ByteArray(input.capacity()).also { input.duplicate().apply { clear() }.get(it) })
            val specs = listOf(panokit.info.semantic, panokit.info.center, panokit.info.offset)
            names.zip(specs).map { (name, spec) -> paddedHead(File(folder, "$name.bin"), spec, fault == "stride") }
        }
        panokit.session(network).use { session ->
            session.segment(picture)
            val texts = mapOf("device" to "JVM", "app" to "kotlin test", "runtime" to "litert", "photo" to folder.name)
            session.dump(File(folder, "${folder.name}.safetensors"), texts)
        }
    }
}

fun main(words: Array<String>) {
    when (words[0]) {
        "vectors" -> println("${computeVectors(File(words[1]), File(words[2]))} cases computed")
        "camera" -> cameraApp(File(words[1]), File(words[2]), words[3].toInt(), words[4].toInt(), words.getOrElse(5) { "" })
        else -> error("expected vectors or camera")
    }
}
