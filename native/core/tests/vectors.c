/* The core on Panokit's golden vectors:
 *
 *     panokit vectors write SUITE
 *     vectors SUITE RESULTS
 *     panokit vectors check SUITE RESULTS
 *
 * Writes a NAME.safetensors with every stage for each case. Exit code 2: a file is not as expected.
 * A second core of a hundred lines could be tested with the same program: it uses the public header
 * only, but for the JSON reader. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { TEXT = 1 << 16, PATH = 1024 };

static void stop(const char *what, const char *where) {
    fprintf(stderr, "vectors: %s: %s\n", where, what);
    exit(2);
}

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    size_t room = 1 << 16, used = 0, got;
    char *data = malloc(room + 1);
    if (!file || !data) stop("cannot be read", path);
    while ((got = fread(data + used, 1, room - used, file)) > 0) {
        used += got;
        if (used == room) {
            data = realloc(data, 2 * room + 1);
            if (!data) stop("too large", path);
            room *= 2;
        }
    }
    fclose(file);
    data[used] = 0;
    *bytes = used;
    return data;
}

static int write_piece(void *file, const void *bytes, size_t count) {
    return fwrite(bytes, 1, count, file) != count;
}

/* Text that grows within a fixed buffer. */
typedef struct text {
    size_t used;
    char bytes[TEXT];
} text;

static void say(text *t, const char *format, ...) {
    va_list arguments;
    int n;
    va_start(arguments, format);
    n = vsnprintf(t->bytes + t->used, TEXT - t->used, format, arguments);
    va_end(arguments);
    if (n < 0 || (size_t)n >= TEXT - t->used) stop("a text is too long", "case");
    t->used += (size_t)n;
}

static void say_value(text *t, pk_json value) {
    say(t, "%.*s", (int)(value.end - value.at), value.at);
}

/* ---- safetensors ---- */

typedef struct stored {
    panokit_tensor tensor;
    int64_t shape[4];
    int rank;
} stored;

static int find_stored(const char *file, size_t bytes, const char *name, stored *out) {
    uint64_t length = 0;
    pk_json header = {NULL, NULL}, entry, item;
    double start, end;
    size_t where;
    int i;
    static const char *const names[] = {"U8", "I8", "I16", "F16", "F32", "I32"};
    for (i = 0; i < 8; i++) length |= (uint64_t)(unsigned char)file[i] << 8 * i;
    if (bytes < 8 || length > bytes - 8 || !pk_json_open(file + 8, (size_t)length, &header, &where))
        stop("no safetensors", name);
    entry = pk_json_get(header, name);
    if (!entry.at) return 0;
    memset(out, 0, sizeof *out);
    for (i = 0; i < 6; i++)
        if (pk_json_is(pk_json_get(entry, "dtype"), names[i])) out->tensor.dtype = (panokit_dtype)i;
    item = pk_json_first(pk_json_get(entry, "shape"), NULL);
    for (; item.at && out->rank < 4; item = pk_json_next(pk_json_get(entry, "shape"), item, NULL))
        pk_json_whole(item, 0, 1 << 30, &out->shape[out->rank++]);
    item = pk_json_first(pk_json_get(entry, "data_offsets"), NULL);
    pk_json_number(item, &start);
    pk_json_number(pk_json_next(pk_json_get(entry, "data_offsets"), item, NULL), &end);
    out->tensor.data = file + 8 + length + (size_t)start;
    out->tensor.bytes = (size_t)(end - start);
    if (end < start || (double)(bytes - 8 - length) < end) stop("truncated", name);
    return 1;
}

/* ---- manifests of the cases ---- */

static const char *const dtypes[] = {"uint8", "int8", "int16", "float16", "float32"};

static void say_tensor(text *t, const char *name, panokit_dtype dtype, long h, long w, long c,
                       pk_json quantization) {
    say(t, "{\"name\": \"%s\", \"shape\": [1, %ld, %ld, %ld], \"dtype\": \"%s\", \"layout\": \"nhwc\"",
        name, h, w, c, dtypes[dtype]);
    if (quantization.at) {
        say(t, ", \"scale\": ");
        say_value(t, pk_json_get(quantization, "scale"));
        say(t, ", \"zero_point\": ");
        say_value(t, pk_json_get(quantization, "zero_point"));
    }
    say(t, "}");
}

static void say_start(text *t, long w, long h) {
    t->used = 0;
    say(t, "{\"schema_version\": 1, \"name\": \"case\", \"preprocessing\": {\"size_wh\": [%ld, %ld]}", w, h);
}

static void say_artifact(text *t) {
    say(t, ", \"artifacts\": [{\"name\": \"a\", \"format\": \"tflite\", \"file\": \"a\", "
           "\"sha256\": \"\", \"precision\": \"\", \"input\": ");
}

static panokit_session *open_case(const text *manifest, panokit_model **model) {
    panokit_session *session = NULL;
    panokit_options options = {0, 0, 1};
    panokit_error error;
    if (panokit_open(manifest->bytes, manifest->used, NULL, model, &error) ||
        panokit_session_open(*model, &options, &session, &error))
        stop(error.message, "case");
    return session;
}

static void save(const char *folder, pk_json file, panokit_dump *dump) {
    char path[PATH], name[256];
    panokit_error error;
    FILE *out;
    pk_json_text(file, name, sizeof name);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    out = fopen(path, "wb");
    if (!out) stop("cannot be written", path);
    if (panokit_dump_write(dump, write_piece, out, &error) || fclose(out)) stop(error.message, path);
}

static void add(panokit_dump *dump, const char *name, panokit_dtype dtype, int rank, int64_t a,
                int64_t b, int64_t c, const void *data) {
    static const size_t sizes[] = {1, 1, 2, 2, 4, 4};
    int64_t shape[3];
    panokit_error error;
    shape[0] = a, shape[1] = b, shape[2] = c;
    if (panokit_dump_tensor(dump, name, dtype, rank, shape, data,
                            (size_t)(a * b * (rank == 3 ? c : 1)) * sizes[dtype], &error))
        stop(error.message, name);
}

/* ---- the two kinds of cases ---- */

static text manifest, described;

static void run_preprocess(pk_json entry, const char *file, size_t bytes, const char *folder) {
    stored photo;
    int64_t w, h;
    pk_json size = pk_json_get(entry, "size_wh"), quantization = pk_json_get(entry, "quantization");
    pk_json none = {NULL, NULL};
    panokit_model *model;
    panokit_session *session;
    panokit_image image;
    panokit_error error;
    panokit_dump dump;
    const panokit_transform *t;
    panokit_dtype dtype = PANOKIT_U8;
    void *tensor;
    int i;
    if (!find_stored(file, bytes, "in.photo", &photo)) stop("no photo", "case");
    pk_json_whole(pk_json_first(size, NULL), 1, PK_MAX_SIDE, &w);
    pk_json_whole(pk_json_next(size, pk_json_first(size, NULL), NULL), 1, PK_MAX_SIDE, &h);
    for (i = 0; i < 5; i++)
        if (pk_json_is(pk_json_get(quantization, "dtype"), dtypes[i])) dtype = (panokit_dtype)i;
    say_start(&manifest, (long)w, (long)h);
    say(&manifest, ", \"taxonomy\": {\"categories\": [{\"id\": 1, \"name\": \"a\"}]}, \"postprocessing\": {}");
    say_artifact(&manifest);
    say_tensor(&manifest, "image", dtype, (long)h, (long)w, 3, quantization);
    say(&manifest, ", \"outputs\": {");
    for (i = 0; i < 3; i++) {
        say(&manifest, "%s\"%s\": ", i ? ", " : "", pk_head_names[i]);
        say_tensor(&manifest, pk_head_names[i], PANOKIT_F32, 1, 1, i == 2 ? 2 : 1, none);
    }
    say(&manifest, "}}]}");
    session = open_case(&manifest, &model);
    memset(&image, 0, sizeof image);
    image.width = (int32_t)photo.shape[1];
    image.height = (int32_t)photo.shape[0];
    image.data = photo.tensor.data;
    image.row_stride = 3 * (ptrdiff_t)image.width;
    tensor = malloc(panokit_input_bytes(model));
    if (!tensor || panokit_preprocess(session, &image, &error) ||
        panokit_input(session, tensor, panokit_input_bytes(model), &error))
        stop(error.message, "case");
    panokit_dump_init(&dump, NULL);
    add(&dump, "input", PANOKIT_U8, 3, h, w, 3, panokit_input_rgb(session));
    add(&dump, "quantized", dtype, 3, h, w, 3, tensor);
    t = panokit_session_transform(session);
    described.used = 0;
    say(&described, "{\"photo_wh\": [%ld, %ld], \"input_wh\": [%ld, %ld], \"content_wh\": [%ld, %ld], "
        "\"left\": %ld, \"top\": %ld}", (long)t->photo_width, (long)t->photo_height,
        (long)t->input_width, (long)t->input_height, (long)t->content_width, (long)t->content_height,
        (long)t->left, (long)t->top);
    panokit_dump_text(&dump, "transform", described.bytes, &error);
    save(folder, pk_json_get(entry, "file"), &dump);
    free(tensor);
    panokit_session_close(session);
    panokit_close(model);
}

static void pair_of(pk_json list, int64_t *a, int64_t *b) {
    pk_json first = pk_json_first(list, NULL);
    if (!pk_json_whole(first, 0, 1 << 30, a) ||
        !pk_json_whole(pk_json_next(list, first, NULL), 0, 1 << 30, b))
        stop("no pair of whole numbers", "case");
}

static void describe_case(pk_json entry, const stored heads[3], int64_t w, int64_t h) {
    pk_json list = pk_json_get(entry, "taxonomy"), item, none = {NULL, NULL};
    pk_json quantization = pk_json_get(entry, "quantization");
    int i = 0;
    say_start(&manifest, (long)w, (long)h);
    say(&manifest, ", \"taxonomy\": {\"categories\": [");
    for (item = pk_json_first(list, NULL); item.at; item = pk_json_next(list, item, NULL), i++) {
        say(&manifest, "%s{\"name\": \"c%d\", \"id\": ", i ? ", " : "", i);
        say_value(&manifest, pk_json_get(item, "id"));
        say(&manifest, ", \"isthing\": ");
        say_value(&manifest, pk_json_get(item, "isthing"));
        say(&manifest, "}");
    }
    say(&manifest, "]}, \"postprocessing\": ");
    say_value(&manifest, pk_json_get(entry, "postprocessing"));
    say_artifact(&manifest);
    say_tensor(&manifest, "image", PANOKIT_U8, (long)h, (long)w, 3, none);
    say(&manifest, ", \"outputs\": {");
    for (i = 0; i < 3; i++) {
        const stored *head = &heads[i];
        say(&manifest, "%s\"%s\": ", i ? ", " : "", pk_head_names[i]);
        say_tensor(&manifest, pk_head_names[i], head->tensor.dtype, (long)head->shape[0],
                   (long)head->shape[1], (long)head->shape[2],
                   pk_json_get(quantization, pk_head_names[i]));
    }
    say(&manifest, "}}]}");
}

static void describe_segments(const panokit_session *session, const panokit_info *info) {
    int32_t n, i;
    const panokit_segment *segments = panokit_segments(session, &n);
    described.used = 0;
    say(&described, "[");
    for (i = 0; i < n; i++) {
        const panokit_segment *s = &segments[i];
        say(&described, "%s{\"id\": %ld, \"category_id\": %ld, \"isthing\": %d, \"area\": %ld, "
            "\"score\": %.17g, \"center_yx\": ", i ? ", " : "", (long)s->id,
            (long)info->categories[s->channel].id, (int)s->is_thing, (long)s->area, s->score);
        if (s->is_thing) {
            say(&described, "[%.17g, %.17g]}", (double)s->center_y, (double)s->center_x);
        } else {
            say(&described, "null}");
        }
    }
    say(&described, "]");
}

static void run_decode(pk_json entry, const char *file, size_t bytes, const char *folder) {
    stored heads[3];
    panokit_tensor given[3];
    pk_json transform = pk_json_get(entry, "transform");
    int64_t w, h, w0, h0;
    panokit_model *model;
    panokit_session *session;
    panokit_error error;
    panokit_dump dump;
    panokit_explanation e;
    const panokit_info *info;
    const panokit_tensor_spec *spec;
    int32_t *photo;
    int i;
    for (i = 0; i < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "in.%s", pk_head_names[i]);
        if (!find_stored(file, bytes, name, &heads[i])) stop("no head", name);
        given[i] = heads[i].tensor;
    }
    pair_of(pk_json_get(transform, "input_wh"), &w, &h);
    pair_of(pk_json_get(transform, "photo_wh"), &w0, &h0);
    describe_case(entry, heads, w, h);
    session = open_case(&manifest, &model);
    info = panokit_model_info(model);
    spec = &info->heads[PANOKIT_SEMANTIC];
    panokit_dump_init(&dump, NULL);
    photo = malloc((size_t)(w0 * h0) * sizeof *photo);
    if (!photo || panokit_set_photo(session, (int32_t)w0, (int32_t)h0, &error))
        stop(error.message, "case");
    if (panokit_decode(session, given, &error)) {
        described.used = 0;
        if (error.head < 0 || !error.has_position) stop(error.message, "case");
        say(&described, "{\"head\": \"%s\", \"position\": [%ld, %ld", pk_head_names[error.head],
            (long)error.position[0], (long)error.position[1]);
        if (error.head != PANOKIT_CENTER) say(&described, ", %ld", (long)error.position[2]);
        say(&described, "]}");
        panokit_dump_text(&dump, "error", described.bytes, &error);
        add(&dump, "nothing", PANOKIT_I32, 2, 1, 1, 1, photo);
    } else {
        int64_t H = info->grid_height, W = info->grid_width, n;
        if (panokit_explain(session, &e) ||
            panokit_photo_ids(session, photo, 4, 4 * (size_t)w0, &error))
            stop("no explanation", "case");
        n = e.center_count;
        add(&dump, "real.semantic", PANOKIT_F32, 3, spec->height, spec->width, spec->channels, e.real[0]);
        add(&dump, "real.center", PANOKIT_F32, 2, spec->height, spec->width, 1, e.real[1]);
        add(&dump, "real.offset", PANOKIT_F32, 3, spec->height, spec->width, 2, e.real[2]);
        add(&dump, "semantic", PANOKIT_F32, 3, H, W, spec->channels, e.semantic);
        add(&dump, "offset", PANOKIT_F32, 3, H, W, 2, e.offset);
        add(&dump, "class_map", PANOKIT_I32, 2, H, W, 1, e.class_map);
        add(&dump, "scores", PANOKIT_F32, 2, spec->height, spec->width, 1, e.scores);
        add(&dump, "centers", PANOKIT_I32, 2, n, 2, 1, e.centers);
        add(&dump, "center_scores", PANOKIT_F32, 2, n, 1, 1, e.center_scores);
        dump.tensors[dump.tensor_count - 1].rank = 1;
        add(&dump, "votes", PANOKIT_I32, 2, H, W, 1, e.votes);
        add(&dump, "ids", PANOKIT_I32, 2, H, W, 1, panokit_ids(session));
        add(&dump, "photo_ids", PANOKIT_I32, 2, h0, w0, 1, photo);
        describe_segments(session, info);
        panokit_dump_text(&dump, "segments", described.bytes, &error);
    }
    save(folder, pk_json_get(entry, "file"), &dump);
    free(photo);
    panokit_session_close(session);
    panokit_close(model);
}

int main(int argc, char **argv) {
    char path[PATH], name[256];
    size_t bytes, where;
    char *index, *file;
    pk_json root, cases, entry;
    int count = 0;
    if (argc != 3) {
        fprintf(stderr, "usage: vectors SUITE RESULTS\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/suite.json", argv[1]);
    index = read_file(path, &bytes);
    if (!pk_json_open(index, bytes, &root, &where)) stop("no JSON", path);
    if (!pk_json_is(pk_json_get(root, "format"), "panokit-vectors/1")) stop("unknown format", path);
    cases = pk_json_get(root, "cases");
    for (entry = pk_json_first(cases, NULL); entry.at; entry = pk_json_next(cases, entry, NULL)) {
        pk_json_text(pk_json_get(entry, "file"), name, sizeof name);
        snprintf(path, sizeof path, "%s/%s", argv[1], name);
        file = read_file(path, &bytes);
        if (bytes < 8) stop("truncated", path);
        if (pk_json_is(pk_json_get(entry, "kind"), "preprocess")) {
            run_preprocess(entry, file, bytes, argv[2]);
        } else {
            run_decode(entry, file, bytes, argv[2]);
        }
        free(file);
        count++;
    }
    free(index);
    printf("%d cases computed\n", count);
    return 0;
}
