// Write a Panokit device dump (safetensors) in Kotlin; needs Android's org.json only.
//
// val dump = Dump(mapOf("runtime" to "litert", "delegate" to "gpu", "device" to Build.MODEL))
// dump.add("semantic", "I8", intArrayOf(80, 80, 26), outputBuffer)   // as the interpreter left it
// dump.write(File(folder, "photo.safetensors"))
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONObject

class Dump(metadata: Map<String, String> = emptyMap()) {
    private class Entry(val name: String, val dtype: String, val shape: IntArray, val bytes: ByteBuffer)

    private val entries = mutableListOf<Entry>()
    private val metadata = metadata + ("format" to "panokit-dump/1")
    private val sizes = mapOf("U8" to 1, "I8" to 1, "I16" to 2, "F16" to 2, "I32" to 4, "F32" to 4)

    /** The buffer's bytes from 0 to its capacity, in native (on Android: little-endian) order. */
    fun add(name: String, dtype: String, shape: IntArray, buffer: ByteBuffer) {
        val all = buffer.duplicate().apply { clear() }
        require(all.remaining() == shape.fold(sizes.getValue(dtype)) { a, b -> a * b }) { "$name: shape does not fit" }
        entries += Entry(name, dtype, shape, all)
    }

    fun add(name: String, shape: IntArray, values: FloatArray) {
        val buffer = ByteBuffer.allocate(4 * values.size).order(ByteOrder.LITTLE_ENDIAN)
        values.forEach { buffer.putFloat(it) }
        add(name, "F32", shape, buffer)
    }

    fun write(file: File) {
        val header = JSONObject().put("__metadata__", JSONObject(metadata))
        var offset = 0
        for (e in entries) {
            val ends = JSONArray(listOf(offset, offset + e.bytes.remaining()))
            header.put(e.name, JSONObject().put("dtype", e.dtype)
                .put("shape", JSONArray(e.shape.toList())).put("data_offsets", ends))
            offset += e.bytes.remaining()
        }
        var json = header.toString().toByteArray()
        json += ByteArray((8 - json.size % 8) % 8) { 0x20 } // numbers start at a multiple of 8
        val length = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(json.size.toLong())
        file.outputStream().channel.use { out ->
            length.flip()
            out.write(length)
            out.write(ByteBuffer.wrap(json))
            entries.forEach { out.write(it.bytes.duplicate()) }
        }
    }
}
