/* A device dump as a safetensors file, written piece by piece without a copy. */
#include <string.h>

#include "internal.h"

static const char *const dtype_names[] = {"U8", "I8", "I16", "F16", "F32", "I32", "U16", "I64"};
static const size_t dtype_bytes[] = {1, 1, 2, 2, 4, 4, 2, 8};

void panokit_dump_init(panokit_dump *dump, const panokit_session *session) {
    if (!dump) return;
    memset(dump, 0, sizeof *dump);
    dump->session = session;
}

static int given(const panokit_dump *dump, const char *key) {
    int32_t i;
    for (i = 0; i < dump->text_count; i++)
        if (strcmp(dump->texts[i].key, key) == 0) return 1;
    return 0;
}

panokit_status panokit_dump_text(panokit_dump *dump, const char *key, const char *value,
                                 panokit_error *error) {
    pk_clear(error);
    if (!dump || !key || !value || !*key)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'dump', 'key' or 'value' is NULL or empty");
    if (!pk_is_utf8(key) || !pk_is_utf8(value))
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the text of '%.40s' is not UTF-8", key);
    if (given(dump, key))
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the dump has a text '%.40s' already", key);
    if (dump->text_count == PANOKIT_DUMP_TEXTS)
        return pk_fail(error, PANOKIT_TOO_LARGE, "a dump has at most %d texts", PANOKIT_DUMP_TEXTS);
    dump->texts[dump->text_count].key = key;
    dump->texts[dump->text_count++].value = value;
    return PANOKIT_OK;
}

panokit_status panokit_dump_tensor(panokit_dump *dump, const char *name, panokit_dtype dtype,
                                   int32_t rank, const int64_t *shape, const void *data,
                                   size_t bytes, panokit_error *error) {
    uint64_t count = 1;
    int32_t i;
    pk_clear(error);
    if (!dump || !name || !*name || !shape || !data)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'dump', 'name', 'shape' or 'data' is NULL");
    if (!pk_is_utf8(name)) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "a tensor's name is not UTF-8");
    if (strcmp(name, "__metadata__") == 0) /* safetensors keeps its texts under this name */
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "no tensor can be named '__metadata__'");
    if ((int)dtype < 0 || dtype > PANOKIT_I64 || rank < 0 || rank > 4)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "tensor '%.60s': the type or rank is not known",
                       name);
    for (i = 0; i < rank; i++) {
        if (shape[i] < 0 || (uint64_t)shape[i] > PK_MAX_BYTES)
            return pk_fail(error, PANOKIT_BAD_ARGUMENT, "tensor '%.60s': the shape is impossible", name);
        count *= (uint64_t)shape[i];
        if (count > PK_MAX_BYTES)
            return pk_fail(error, PANOKIT_TOO_LARGE, "tensor '%.60s' has more than 2^30 numbers", name);
    }
    if (count * dtype_bytes[dtype] != bytes)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "tensor '%.60s' takes %llu bytes, there are %llu",
                       name, (unsigned long long)(count * dtype_bytes[dtype]),
                       (unsigned long long)bytes);
    for (i = 0; i < dump->tensor_count; i++)
        if (strcmp(dump->tensors[i].name, name) == 0)
            return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the dump has a tensor '%.60s' already", name);
    if (dump->tensor_count == PANOKIT_DUMP_TENSORS)
        return pk_fail(error, PANOKIT_TOO_LARGE, "a dump has at most %d tensors", PANOKIT_DUMP_TENSORS);
    i = dump->tensor_count++;
    dump->tensors[i].name = name;
    dump->tensors[i].dtype = dtype;
    dump->tensors[i].rank = rank;
    memcpy(dump->tensors[i].shape, shape, sizeof *shape * (size_t)rank);
    dump->tensors[i].data = data;
    dump->tensors[i].bytes = bytes;
    return PANOKIT_OK;
}

panokit_status panokit_dump_result(panokit_dump *dump, panokit_error *error) {
    const panokit_session *s = dump ? dump->session : NULL;
    panokit_status status = PANOKIT_OK;
    int64_t shape[3];
    pk_clear(error);
    if (!s) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the dump has no session");
    if (s->has_input) {
        shape[0] = s->transform.input_height;
        shape[1] = s->transform.input_width;
        shape[2] = 3;
        status = panokit_dump_tensor(dump, "input", PANOKIT_U8, 3, shape, s->input,
                                     (size_t)(shape[0] * shape[1] * 3), error);
    }
    if (!status && s->has_result) {
        shape[0] = s->grid_y.n;
        shape[1] = s->grid_x.n;
        status = panokit_dump_tensor(dump, "panoptic", PANOKIT_I32, 2, shape, s->ids,
                                     (size_t)(shape[0] * shape[1] * 4), error);
    }
    return status;
}

panokit_status panokit_dump_head(panokit_dump *dump, panokit_head head, panokit_dtype dtype,
                                 const void *data, size_t bytes, panokit_error *error) {
    const panokit_tensor_spec *spec;
    int64_t shape[3];
    pk_clear(error);
    if (!dump || !dump->session || (int)head < 0 || head > PANOKIT_OFFSET)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the dump has no session, or the head is not known");
    spec = &dump->session->model->info.heads[head];
    shape[0] = spec->height;
    shape[1] = spec->width;
    shape[2] = spec->channels;
    return panokit_dump_tensor(dump, pk_head_names[head], dtype, 3, shape, data, bytes, error);
}

/* ---- the header: produced twice, first to learn its length ---- */

typedef struct sink {
    panokit_writer writer; /* NULL: only count */
    void *context;
    uint64_t count;
    int failed;
    int escape; /* texts within a text: how often quotes are escaped */
    size_t held;
    char buffer[512];
} sink;

static void flush_sink(sink *s) {
    if (s->writer && s->held && !s->failed && s->writer(s->context, s->buffer, s->held)) s->failed = 1;
    s->held = 0;
}

static void put(sink *s, char c) {
    s->count++;
    s->buffer[s->held++] = c;
    if (s->held == sizeof s->buffer) flush_sink(s);
}

/* A character of JSON that stands inside `escape` JSON texts. */
static void put_escaped(sink *s, char c, int times) {
    static const char hex[] = "0123456789abcdef";
    unsigned char byte = (unsigned char)c;
    if (times == 0) {
        put(s, c);
    } else if (c == '"' || c == '\\') {
        put_escaped(s, '\\', times - 1);
        put_escaped(s, c, times - 1);
    } else if (byte < 0x20) {
        put_escaped(s, '\\', times - 1);
        put(s, 'u');
        put(s, '0');
        put(s, '0');
        put(s, hex[byte >> 4]);
        put(s, hex[byte & 15]);
    } else {
        put(s, c);
    }
}

static void put_text(sink *s, const char *text) {
    for (; *text; text++) put_escaped(s, *text, s->escape);
}

static void put_quoted(sink *s, const char *text) {
    put_text(s, "\"");
    s->escape++;
    put_text(s, text);
    s->escape--;
    put_text(s, "\"");
}

static void put_number(sink *s, int64_t value) {
    char digits[24];
    int n = 0, i;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do digits[n++] = (char)('0' + rest % 10);
    while (rest /= 10);
    if (value < 0) put(s, '-');
    for (i = n - 1; i >= 0; i--) put(s, digits[i]);
}

static void put_pair(sink *s, const char *name, int64_t a, int64_t b, const char *after) {
    put_quoted(s, name);
    put_text(s, ": [");
    put_number(s, a);
    put_text(s, ", ");
    put_number(s, b);
    put_text(s, "]");
    put_text(s, after);
}

static void put_transform(sink *s, const panokit_transform *t) {
    /* The nominal scale as a decimal number: a whole part and nine places are plenty. */
    double x = (double)t->input_width / t->photo_width, y = (double)t->input_height / t->photo_height;
    double scale = x < y ? x : y;
    int64_t whole = (int64_t)scale, places = (int64_t)((scale - (double)whole) * 1e9 + 0.5), digit;
    if (places > 999999999) places = 999999999;
    put_text(s, "{");
    put_pair(s, "photo_wh", t->photo_width, t->photo_height, ", ");
    put_pair(s, "input_wh", t->input_width, t->input_height, ", ");
    put_pair(s, "content_wh", t->content_width, t->content_height, ", ");
    put_quoted(s, "left");
    put_text(s, ": ");
    put_number(s, t->left);
    put_text(s, ", ");
    put_quoted(s, "top");
    put_text(s, ": ");
    put_number(s, t->top);
    put_text(s, ", ");
    put_quoted(s, "scale");
    put_text(s, ": ");
    put_number(s, whole);
    put_text(s, ".");
    for (digit = 100000000; digit; digit /= 10) put(s, (char)('0' + places / digit % 10));
    put_text(s, "}");
}

static void put_segments(sink *s, const panokit_session *session) {
    int32_t i;
    put_text(s, "[");
    for (i = 0; i < session->segment_count; i++) {
        put_text(s, i ? ", {" : "{");
        put_quoted(s, "id");
        put_text(s, ": ");
        put_number(s, session->segments[i].id);
        put_text(s, ", ");
        put_quoted(s, "channel");
        put_text(s, ": ");
        put_number(s, session->segments[i].channel);
        put_text(s, "}");
    }
    put_text(s, "]");
}

static void put_entry(sink *s, const char *key, const char *value) {
    put_text(s, ", ");
    put_quoted(s, key);
    put_text(s, ": ");
    put_quoted(s, value);
}

static void put_session(sink *s, const panokit_dump *dump) {
    const panokit_session *session = dump->session;
    if (!given(dump, "artifact")) put_entry(s, "artifact", session->model->info.artifact);
    if (!given(dump, "artifact_sha256"))
        put_entry(s, "artifact_sha256", session->model->info.sha256);
    if (session->has_photo && !given(dump, "transform")) {
        put_text(s, ", \"transform\": \"");
        s->escape++;
        put_transform(s, &session->transform);
        s->escape--;
        put_text(s, "\"");
    }
    if (session->has_result && !given(dump, "segments")) {
        put_text(s, ", \"segments\": \"");
        s->escape++;
        put_segments(s, session);
        s->escape--;
        put_text(s, "\"");
    }
}

static void put_header(sink *s, const panokit_dump *dump) {
    uint64_t at = 0;
    int32_t i, k;
    put_text(s, "{\"__metadata__\": {\"format\": \"panokit-dump/1\"");
    if (dump->session) put_session(s, dump);
    for (i = 0; i < dump->text_count; i++) put_entry(s, dump->texts[i].key, dump->texts[i].value);
    put_text(s, "}");
    for (i = 0; i < dump->tensor_count; i++) {
        put_text(s, ", ");
        put_quoted(s, dump->tensors[i].name);
        put_text(s, ": {\"dtype\": \"");
        put_text(s, dtype_names[dump->tensors[i].dtype]);
        put_text(s, "\", \"shape\": [");
        for (k = 0; k < dump->tensors[i].rank; k++) {
            if (k) put_text(s, ", ");
            put_number(s, dump->tensors[i].shape[k]);
        }
        put_text(s, "], \"data_offsets\": [");
        put_number(s, (int64_t)at);
        put_text(s, ", ");
        at += dump->tensors[i].bytes;
        put_number(s, (int64_t)at);
        put_text(s, "]}");
    }
    put_text(s, "}");
}

panokit_status panokit_dump_write(const panokit_dump *dump, panokit_writer writer, void *context,
                                  panokit_error *error) {
    sink s;
    uint64_t length;
    int32_t i;
    const uint16_t one = 1;
    pk_clear(error);
    if (!dump || !writer) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'dump' or 'writer' is NULL");
    if (*(const unsigned char *)&one != 1)
        return pk_fail(error, PANOKIT_UNSUPPORTED, "dumps are written on little-endian machines only");
    if (given(dump, "format"))
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the text 'format' is written by itself");
    if (!dump->tensor_count) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the dump has no tensor");
    memset(&s, 0, sizeof s);
    put_header(&s, dump);
    length = (s.count + 7) / 8 * 8; /* numbers start at a multiple of 8 */
    if (length > PK_MAX_MANIFEST)
        return pk_fail(error, PANOKIT_TOO_LARGE, "the dump's texts have more than %d bytes", PK_MAX_MANIFEST);
    memset(&s, 0, sizeof s);
    s.writer = writer;
    s.context = context;
    for (i = 0; i < 8; i++) put(&s, (char)(length >> 8 * i & 255));
    put_header(&s, dump);
    while (s.count < length + 8) put(&s, ' ');
    flush_sink(&s);
    for (i = 0; i < dump->tensor_count && !s.failed; i++)
        if (dump->tensors[i].bytes)
            s.failed = writer(context, dump->tensors[i].data, dump->tensors[i].bytes) != 0;
    if (s.failed) return pk_fail(error, PANOKIT_WRITE_FAILED, "the dump could not be written");
    return PANOKIT_OK;
}
