import java.io.File
import java.nio.ByteBuffer
import panokit.DType
import panokit.Head
import panokit.Panokit
import panokit.Picture
import panokit.golden.Heads
import panokit.golden.PanokitGoldenTest
import panokit.golden.Pipeline

private fun direct(bytes: ByteArray) = ByteBuffer.allocateDirect(bytes.size).apply { put(bytes) }

/** An app whose network is a table of the golden inputs; the property `fault` says what it does wrong. */
class AppGoldenTest : PanokitGoldenTest() {
    private val fault = System.getProperty("fault") ?: ""
    private val session = Panokit.open(File(System.getProperty("panokit.bundle"))).session()

    override val pipeline = object : Pipeline {
        override fun input(rgb: ByteArray, width: Int, height: Int): ByteArray {
            session.preprocess(Picture.rgb(direct(rgb), width, height))
            return ByteArray(session.input.capacity()).also { session.input.duplicate().apply { clear() }.get(it) }
        }

        override fun run(input: ByteArray): Heads {
            for (name in listOf("astronaut", "grace_hopper", "coffee")) {
                fun read(file: String) = javaClass.getResourceAsStream("/golden/$name/$file.bin")!!.readBytes()
                if (!read("input").contentEquals(input)) continue
                val offset = if (fault == "offset") ByteArray(12800) else read("offset")
                return Heads(read("semantic"), read("center"), offset)
            }
            error("an input that is in no case")
        }

        override fun map(heads: Heads, photoWidth: Int, photoHeight: Int): IntArray {
            if (fault == "letterbox") session.setPhoto(100, 40) else session.setPhoto(photoWidth, photoHeight)
            return session.decode(listOf(heads.semantic, heads.center, heads.offset).map { Head(direct(it), DType.I8) }).ids
        }
    }
}
