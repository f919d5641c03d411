package panokit

import java.io.File
import java.nio.ByteBuffer
import java.util.concurrent.Callable
import java.util.concurrent.Executors
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test

/** The Kotlin face; the numbers are proved by the vectors. The shipped bundle is the property panokit.bundle. */
class PanokitTest {
    private val bundle = File(System.getProperty("panokit.bundle"))

    private fun zeros(info: Info) = listOf(info.semantic, info.center, info.offset).map {
        Head(ByteBuffer.allocateDirect(it.bytes), it.dtype)
    }

    @Test
    fun manifestIsTold(): Unit = Panokit.open(bundle).use {
        assertEquals("tflite-int8", it.info.artifact)
        assertEquals(Category(1, "person", true), it.info.categories[0])
        assertEquals(26, it.info.semantic.channels)
        assertEquals(listOf(320, 320), listOf(it.info.gridWidth, it.info.gridHeight))
        val manifest = File(bundle, "manifest.json").readText()
        val scale = Regex("\"name\": \"tflite-int8\".*?\"semantic\": \\{.*?\"scale\": ([-+.0-9e]+)", RegexOption.DOT_MATCHES_ALL)
        assertEquals(scale.find(manifest)!!.groupValues[1].toFloat(), it.info.semantic.scale)
    }

    @Test
    fun refusalsAreSentences() {
        val none = assertThrows(PanokitException::class.java) { Panokit.open(bundle, "ünknown") }
        assertEquals("the bundle has no artifact 'ünknown'", none.message)
        val bad = assertThrows(PanokitException::class.java) { Panokit.open("{".toByteArray()) }
        assertTrue(bad.message!!, bad.message!!.startsWith("manifest: expected JSON"))
        Panokit.open(bundle).use { panokit ->
            panokit.session().use { session ->
                session.setPhoto(30, 20)
                val short = zeros(panokit.info).toMutableList().also { it[2] = Head(ByteBuffer.allocateDirect(7), DType.I8) }
                val error = assertThrows(PanokitException::class.java) { session.decode(short) }
                assertEquals(2, error.head)
                val heap = List(3) { Head(ByteBuffer.allocate(9), DType.I8) }
                assertTrue(assertThrows(PanokitException::class.java) { session.decode(heap) }.message!!.contains("direct"))
                val tooSmall = Picture.rgb(ByteBuffer.allocateDirect(10), 30, 20)
                val told = assertThrows(PanokitException::class.java) { session.preprocess(tooSmall) }.message!!
                assertEquals("a plane needs bytes 0 to 1800 of its buffer, which has 10", told)
                assertThrows(IllegalStateException::class.java) { session.segment(tooSmall) }
            }
        }
    }

    @Test
    fun nothingIsUsedAfterItIsClosed() {
        val panokit = Panokit.open(bundle)
        val session = panokit.session()
        session.close()
        assertThrows(IllegalStateException::class.java) { session.setPhoto(3, 3) }
        session.close()
        panokit.close()
        panokit.close()
        assertThrows(IllegalStateException::class.java) { panokit.session() }
    }

    @Test
    fun threadsShareAModel(): Unit = Panokit.open(bundle).use { panokit ->
        val pool = Executors.newFixedThreadPool(3)
        val maps = pool.invokeAll(List(6) {
            Callable {
                panokit.session().use { session ->
                    session.setPhoto(40, 30)
                    session.decode(zeros(panokit.info)).photoIds
                }
            }
        }).map { it.get() }
        pool.shutdown()
        maps.forEach { assertArrayEquals(maps[0], it) }
        assertEquals(1200, maps[0].size)
    }

    @Test
    fun mattesAndDumpsNeedAResult() {
        val panokit = Panokit.open(bundle)
        panokit.session({ zeros(panokit.info) }, matte = true).use { session ->
            val picture = Picture.rgb(ByteBuffer.allocateDirect(3 * 60 * 40), 60, 40)
            assertThrows(PanokitException::class.java) { session.matte(picture, listOf(1)) }
            val result = session.segment(picture)
            assertEquals(60 * 40, session.matte(picture, result.segments.take(1).map { it.id }).size)
            val file = File.createTempFile("panokit", ".safetensors")
            session.dump(file, mapOf("device" to "Größe 😀 \"x\""))
            assertTrue(readSafetensors(file).keys.containsAll(listOf("input", "semantic", "center", "offset", "panoptic")))
            assertTrue(file.readText().contains("Größe 😀"))
            assertFalse(File(file.path + ".part").exists())
            file.delete()
            assertThrows(PanokitException::class.java) { session.dump(File("/no/such/folder/a.safetensors")) }
        }
        panokit.close()
    }
}
