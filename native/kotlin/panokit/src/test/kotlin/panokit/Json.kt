package panokit

/** JSON as maps, lists, texts, doubles, booleans and null: enough for tests, which need no library. */
class Json private constructor(private val text: String) {
    private var at = 0

    companion object {
        fun parse(text: String): Any? = Json(text).run { value().also { space(); require(at == this.text.length) } }

        @Suppress("UNCHECKED_CAST")
        fun map(text: String) = parse(text) as Map<String, Any?>
    }

    private fun space() {
        while (at < text.length && text[at].isWhitespace()) at++
    }

    private fun take(c: Char): Boolean {
        space()
        return (at < text.length && text[at] == c).also { if (it) at++ }
    }

    private fun value(): Any? {
        space()
        return when (text[at]) {
            '{' -> { at++; members() }
            '[' -> { at++; items() }
            '"' -> string()
            't' -> { at += 4; true }
            'f' -> { at += 5; false }
            'n' -> { at += 4; null }
            else -> Regex("-?[0-9.eE+-]+").matchAt(text, at)!!.value.also { at += it.length }.toDouble()
        }
    }

    private fun members() = buildMap<String, Any?> {
        if (take('}')) return@buildMap
        do {
            space()
            val name = string()
            require(take(':'))
            put(name, value())
        } while (take(','))
        require(take('}'))
    }

    private fun items() = buildList<Any?> {
        if (take(']')) return@buildList
        do add(value()) while (take(','))
        require(take(']'))
    }

    private fun string() = buildString {
        require(text[at++] == '"')
        while (text[at] != '"') {
            val c = text[at++]
            if (c != '\\') { append(c); continue }
            when (val e = text[at++]) {
                'n' -> append('\n')
                't' -> append('\t')
                'r' -> append('\r')
                'b' -> append('\b')
                'f' -> append('\u000c')
                'u' -> { append(text.substring(at, at + 4).toInt(16).toChar()); at += 4 }
                else -> append(e)
            }
        }
        at++
    }
}
