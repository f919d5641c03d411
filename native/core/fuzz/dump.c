/* Dumps with any names, texts and shapes: refused, or a file whose header is JSON and fits. */
#include "internal.h"
#include "take.h"

typedef struct memory {
    uint8_t *bytes;
    size_t used, room, fails_at;
} memory;

static int keep(void *context, const void *bytes, size_t count) {
    memory *m = context;
    if (m->used + count > m->room || m->used >= m->fails_at) return 1;
    memcpy(m->bytes + m->used, bytes, count);
    m->used += count;
    return 0;
}

/* A text of its own, any bytes but zero. */
static char *take_text(input *in) {
    size_t n = take_bytes(in, 1) % 40, i;
    char *text = malloc(n + 1);
    if (!text) abort();
    for (i = 0; i < n; i++) {
        text[i] = (char)take_bytes(in, 1);
        if (!text[i]) text[i] = 'a';
    }
    text[n] = 0;
    return text;
}

static void check_file(const memory *m, const panokit_dump *dump) {
    uint64_t length = 0, total = 0;
    pk_json root;
    size_t where;
    int i;
    for (i = 0; i < 8; i++) length |= (uint64_t)m->bytes[i] << 8 * i;
    if (m->used < 8 || length > m->used - 8 || length % 8) abort();
    if (!pk_json_open((const char *)m->bytes + 8, (size_t)length, &root, &where)) abort();
    for (i = 0; i < dump->tensor_count; i++) total += dump->tensors[i].bytes;
    if (m->used != 8 + length + total) abort();
    if (!pk_json_is(pk_json_get(pk_json_get(root, "__metadata__"), "format"), "panokit-dump/1")) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4, 2, 8};
    input in = {data, size};
    memory m = {NULL, 0, 1 << 20, (size_t)-1};
    panokit_dump dump;
    panokit_error error;
    char *texts[80];
    uint8_t *buffers[40];
    int i, n = 0, b = 0, count = take_between(&in, 0, 14);
    panokit_dump_init(&dump, NULL);
    for (i = 0; i < count; i++) {
        int64_t shape[4], elements = 1;
        int32_t rank = take_between(&in, -1, 5), k;
        int dtype = take_between(&in, 0, 7);
        size_t bytes;
        for (k = 0; k < 4; k++) {
            shape[k] = take_bytes(&in, 1) % 8 ? take_between(&in, 0, 5) : take_between(&in, -9, 9999);
            if (k < rank && shape[k] > 0 && elements < 10000) elements *= shape[k];
        }
        bytes = elements < 10000 ? (size_t)elements * sizes[dtype] : 7;
        texts[n] = take_text(&in);
        buffers[b] = take_buffer(&in, bytes);
        panokit_dump_tensor(&dump, texts[n++], (panokit_dtype)dtype, rank, shape, buffers[b++], bytes, &error);
    }
    for (i = 0; i < count; i++) {
        texts[n] = take_text(&in);
        texts[n + 1] = take_text(&in);
        panokit_dump_text(&dump, texts[n], texts[n + 1], &error);
        n += 2;
    }
    if (take_bytes(&in, 1) % 4 == 0) m.fails_at = take_bytes(&in, 2) % 300;
    m.bytes = malloc(m.room);
    if (!m.bytes) abort();
    if (panokit_dump_write(&dump, keep, &m, &error) == PANOKIT_OK) check_file(&m, &dump);
    free(m.bytes);
    while (n) free(texts[--n]);
    while (b) free(buffers[--b]);
    return 0;
}
