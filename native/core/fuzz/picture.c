/* Pictures of any format, size, stride and orientation: refused, or an input and a matte. */
#include <stdio.h>

#include "internal.h"
#include "take.h"

static panokit_model *make_model(int32_t w, int32_t h, int type) {
    static const char *const dtypes[] = {"uint8", "int8", "int16", "float16", "float32"};
    char text[2048];
    panokit_model *model = NULL;
    panokit_error error;
    int used = snprintf(text, sizeof text,
        "{\"schema_version\": 1, \"name\": \"f\", \"preprocessing\": {\"size_wh\": [%d, %d]}, "
        "\"postprocessing\": {\"min_thing_area\": 0}, \"taxonomy\": {\"categories\": [{\"id\": 1, \"name\": "
        "\"person\"}]}, \"artifacts\": [{\"name\": \"a\", \"file\": \"a\", \"sha256\": \"\", \"precision\": \"\", "
        "\"input\": {\"name\": \"i\", \"shape\": [1, %d, %d, 3], \"dtype\": \"%s\", \"layout\": \"nhwc\", "
        "\"scale\": 1.5, \"zero_point\": -3}, \"outputs\": {"
        "\"semantic\": {\"name\": \"s\", \"shape\": [1, 3, 3, 1], \"dtype\": \"float32\", \"layout\": \"nhwc\"}, "
        "\"center\": {\"name\": \"c\", \"shape\": [1, 3, 3, 1], \"dtype\": \"float32\", \"layout\": \"nhwc\"}, "
        "\"offset\": {\"name\": \"o\", \"shape\": [1, 3, 3, 2], \"dtype\": \"float32\", \"layout\": \"nhwc\"}}}]}",
        w, h, h, w, dtypes[type]);
    if (panokit_open(text, (size_t)used, NULL, &model, &error)) abort();
    return model;
}

/* A plane in a buffer of exactly the bytes that its rows take, and the address of its first row. */
static const uint8_t *make_plane(input *in, int32_t rows, size_t row_bytes, ptrdiff_t *stride,
                                 uint8_t **buffer) {
    size_t pitch = row_bytes + take_bytes(in, 1) % 8, last = (size_t)(rows - 1) * pitch;
    *buffer = take_buffer(in, last + row_bytes);
    if (take_bytes(in, 1) & 1) { /* bottom up */
        *stride = -(ptrdiff_t)pitch;
        return *buffer + last;
    }
    *stride = (ptrdiff_t)pitch;
    return *buffer;
}

static void try_matte(panokit_session *session, const panokit_image *image) {
    static const float semantic[9] = {0}, center[9] = {0, 0, 0, 0, 9, 0, 0, 0, 0}, offset[18] = {0};
    panokit_tensor heads[3];
    panokit_error error;
    const panokit_transform *t = panokit_session_transform(session);
    int32_t n, one = 1;
    float *alpha;
    size_t i, pixels = (size_t)t->photo_width * (size_t)t->photo_height;
    memset(heads, 0, sizeof heads);
    heads[0].data = semantic, heads[0].bytes = sizeof semantic, heads[0].dtype = PANOKIT_F32;
    heads[1].data = center, heads[1].bytes = sizeof center, heads[1].dtype = PANOKIT_F32;
    heads[2].data = offset, heads[2].bytes = sizeof offset, heads[2].dtype = PANOKIT_F32;
    if (panokit_decode(session, heads, &error)) abort();
    panokit_segments(session, &n);
    alpha = malloc(pixels * sizeof *alpha);
    if (!alpha) abort();
    if (panokit_matte(session, image, &one, n > 0, alpha, (size_t)t->photo_width, &error)) abort();
    for (i = 0; i < pixels; i++)
        if (!(alpha[i] >= 0 && alpha[i] <= 1)) abort();
    free(alpha);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    int32_t w = take_between(&in, 1, 40), h = take_between(&in, 1, 40);
    panokit_model *model = make_model(w, h, (int)(take_bytes(&in, 1) % 5));
    panokit_session *session = NULL;
    panokit_options options = {600, 0, 0};
    panokit_error error;
    panokit_image image;
    uint8_t *planes[3] = {NULL, NULL, NULL}, *pixels;
    void *tensor;
    size_t bytes = panokit_input_bytes(model);
    int i;
    memset(&image, 0, sizeof image);
    image.format = (panokit_pixel_format)(take_bytes(&in, 1) % 6);
    image.width = take_bytes(&in, 1) & 7 ? take_between(&in, 1, 60) : take_between(&in, 1, 600);
    image.height = take_bytes(&in, 1) & 7 ? take_between(&in, 1, 60) : take_between(&in, 1, 60);
    image.orientation = take_between(&in, 0, 8);
    options.matte = take_bytes(&in, 1) % 128 == 1; /* 24 MB each time */
    if (image.format == PANOKIT_YUV420) {
        int32_t cw = (image.width + 1) / 2, ch = (image.height + 1) / 2;
        image.chroma_step = take_between(&in, 1, 3);
        image.data = make_plane(&in, image.height, (size_t)image.width, &image.row_stride, &planes[0]);
        bytes = ((size_t)cw - 1) * (size_t)image.chroma_step + 1;
        image.u = make_plane(&in, ch, bytes, &image.chroma_row_stride, &planes[1]);
        /* V lies as U does. */
        planes[2] = take_buffer(&in, (size_t)(ch - 1) * (size_t)(image.chroma_row_stride < 0
                                ? -image.chroma_row_stride : image.chroma_row_stride) + bytes);
        image.v = planes[2] + (image.u - planes[1]);
        image.full_range = (int32_t)(take_bytes(&in, 1) & 1);
        image.matrix = (panokit_yuv_matrix)(take_bytes(&in, 1) & 1);
        bytes = panokit_input_bytes(model);
    } else {
        size_t each = image.format == PANOKIT_RGB8 ? 3 : 4;
        image.data = make_plane(&in, image.height, each * (size_t)image.width, &image.row_stride, &planes[0]);
    }
    if (take_bytes(&in, 1) % 32 == 0) /* too small for any row */
        image.row_stride = take_bytes(&in, 1) & 1 ? 0 : image.width > 3 ? -3 : image.width - 1;
    if (panokit_session_open(model, &options, &session, &error)) abort();
    tensor = malloc(bytes);
    pixels = malloc(4 * (size_t)w * (size_t)h);
    if (!tensor || !pixels) abort();
    if (panokit_preprocess(session, &image, &error) == PANOKIT_OK) {
        if (panokit_input(session, tensor, bytes, &error)) abort();
        if (panokit_input_pixels(session, PANOKIT_BGRX8, pixels, 4 * (size_t)w, &error)) abort();
        if (options.matte) try_matte(session, &image);
    } else if (error.status != PANOKIT_BAD_IMAGE) {
        abort();
    }
    for (i = 0; i < 3; i++) free(planes[i]);
    free(tensor);
    free(pixels);
    panokit_session_close(session);
    panokit_close(model);
    return 0;
}
