/* Heads of any type, size, stride and value: refused, or decoded to a map that is in order. */
#include <stdio.h>

#include "internal.h"
#include "take.h"

static const char *const dtypes[] = {"uint8", "int8", "int16", "float16", "float32"};
static const size_t sizes[] = {1, 1, 2, 2, 4};

static size_t say_tensor(char *text, size_t room, input *in, const char *name, int dtype, int32_t h,
                         int32_t w, int32_t c) {
    int planes = take_bytes(in, 1) & 1;
    char shape[64];
    snprintf(shape, sizeof shape, planes ? "[1, %d, %d, %d]" : "[1, %d, %d, %d]", planes ? c : h,
             planes ? h : w, planes ? w : c);
    return (size_t)snprintf(text, room,
                            "\"%s\": {\"name\": \"%s\", \"shape\": %s, \"dtype\": \"%s\", \"layout\": "
                            "\"%s\", \"scale\": %d.5e%d, \"zero_point\": %d}",
                            name, name, shape, dtypes[dtype], planes ? "nchw" : "nhwc",
                            take_between(in, 0, 9), take_between(in, -4, 4), take_between(in, -200, 200));
}

static panokit_model *make_model(input *in, int *dtype, int32_t channels[3]) {
    char text[4096];
    panokit_model *model = NULL;
    panokit_error error;
    int32_t h = take_between(in, 1, 12), w = take_between(in, 1, 12), n = take_between(in, 1, 9), i;
    int32_t H = take_between(in, 1, 60), W = take_between(in, 1, 60);
    size_t used = 0;
    channels[0] = n, channels[1] = 1, channels[2] = 2;
    used += (size_t)snprintf(text, sizeof text,
        "{\"schema_version\": 1, \"name\": \"f\", \"preprocessing\": {\"size_wh\": [%d, %d]}, "
        "\"postprocessing\": {\"threshold\": 0.%d, \"window\": %d, \"top_k\": %d, \"min_thing_area\": %d, "
        "\"min_stuff_area\": %d, \"grid\": \"%s\", \"min_thing_score\": 0.%d}, \"taxonomy\": {\"categories\": [",
        W, H, take_between(in, 0, 9), 2 * take_between(in, 0, 20) + 1, take_between(in, 1, 40),
        take_between(in, 0, 9), take_between(in, 0, 9), take_bytes(in, 1) & 1 ? "input" : "head",
        take_between(in, 0, 9));
    for (i = 0; i < n; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s{\"id\": %d, \"name\": \"%s\", \"isthing\": %d}",
                                 i ? ", " : "", 50 - i, i ? "c" : "person", (int)(take_bytes(in, 1) & 1));
    used += (size_t)snprintf(text + used, sizeof text - used,
        "]}, \"artifacts\": [{\"name\": \"a\", \"file\": \"a\", \"sha256\": \"\", \"precision\": \"\", \"input\": "
        "{\"name\": \"i\", \"shape\": [1, %d, %d, 3], \"dtype\": \"uint8\", \"layout\": \"nhwc\"}, \"outputs\": {",
        H, W);
    for (i = 0; i < 3; i++) {
        if (i) text[used++] = ',';
        dtype[i] = (int)(take_bytes(in, 1) % 5);
        used += say_tensor(text + used, sizeof text - used, in, pk_head_names[i], dtype[i], h, w, channels[i]);
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "}}]}");
    if (panokit_open(text, used, NULL, &model, &error)) {
        fprintf(stderr, "%s\n%s\n", error.message, text);
        abort();
    }
    return model;
}

static void check_result(const panokit_session *session, const panokit_info *info) {
    int32_t n, i, w0 = panokit_session_transform(session)->photo_width;
    int32_t h0 = panokit_session_transform(session)->photo_height, needed;
    const panokit_segment *segments = panokit_segments(session, &n);
    const int32_t *ids = panokit_ids(session);
    size_t pixels = (size_t)info->grid_width * (size_t)info->grid_height, at, bytes;
    int64_t sum = 0, found = 0;
    uint16_t *photo = malloc(2 * (size_t)w0 * (size_t)h0);
    if (!photo) abort();
    for (at = 0; at < pixels; at++) {
        if (ids[at] < 0 || ids[at] > n) abort();
        found += ids[at] > 0;
    }
    for (i = 0; i < n; i++) {
        const panokit_segment *s = &segments[i];
        char text[1 << 14];
        sum += s->area;
        if (s->id != i + 1 || s->area < 1 || !(s->score >= 0 && s->score <= 1.00001)) abort();
        if (s->photo_area && (s->box[0] < 0 || s->box[2] > w0 || s->box[0] >= s->box[2] ||
                              s->box[1] < 0 || s->box[3] > h0 || s->box[1] >= s->box[3])) abort();
        panokit_rle(session, s->id, NULL, 0, &bytes, NULL);
        if (bytes < sizeof text && panokit_rle(session, s->id, text, bytes, &bytes, NULL)) abort();
        if (bytes > 1 && panokit_rle(session, s->id, text, 1, &bytes, NULL) != PANOKIT_NO_ROOM) abort();
    }
    if (sum != found) abort();
    if (panokit_photo_ids(session, photo, 2, 2 * (size_t)w0, NULL)) abort();
    if (photo[0] != panokit_id_at(session, 0, 0)) abort();
    if (panokit_portrait(session, NULL, 0, &needed, NULL) || needed > n) abort();
    free(photo);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    int dtype[3], i;
    int32_t channels[3];
    uint8_t *buffers[3];
    panokit_tensor heads[3];
    panokit_error error;
    panokit_session *session = NULL;
    panokit_model *model = make_model(&in, dtype, channels);
    const panokit_info *info = panokit_model_info(model);
    panokit_options options = {128, 0, (int32_t)(take_bytes(&in, 1) & 1)};
    if (panokit_session_open(model, &options, &session, &error)) abort();
    if (panokit_set_photo(session, take_between(&in, 1, 128), take_between(&in, 1, 128), &error)) abort();
    for (i = 0; i < 3; i++) {
        const panokit_tensor_spec *spec = &info->heads[i];
        size_t dense = (size_t)spec->height * (size_t)spec->width * (size_t)channels[i];
        memset(&heads[i], 0, sizeof heads[i]);
        heads[i].dtype = (panokit_dtype)dtype[i];
        heads[i].bytes = dense * sizes[dtype[i]];
        if (take_bytes(&in, 1) % 4 == 0) { /* strides of its own, right or wrong */
            heads[i].row_stride = take_between(&in, -2, 200);
            heads[i].column_stride = take_between(&in, 0, 40);
            heads[i].channel_stride = take_between(&in, 0, 40);
            heads[i].bytes = (size_t)take_between(&in, 0, 20000);
        }
        buffers[i] = take_buffer(&in, heads[i].bytes);
        if (take_bytes(&in, 1) % 4 && dtype[i] == PANOKIT_F32) { /* sensible numbers more often */
            size_t k;
            for (k = 0; k + 4 <= heads[i].bytes; k += 4) {
                float value = (float)(int8_t)buffers[i][k] / 8;
                memcpy(buffers[i] + k, &value, 4);
            }
        }
        heads[i].data = buffers[i];
    }
    if (panokit_decode(session, heads, &error) == PANOKIT_OK) {
        check_result(session, info);
    } else if (error.status != PANOKIT_BAD_HEAD || error.head < 0) {
        abort();
    }
    for (i = 0; i < 3; i++) free(buffers[i]);
    panokit_session_close(session);
    panokit_close(model);
    return 0;
}
