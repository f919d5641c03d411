/* From a picture in the app's memory to the network's input: pixel formats, orientation, letterbox
 * and Pillow's bilinear kernel, row by row, so that a photo of any height needs a few rows only. */
#include <string.h>

#include "internal.h"

#define BAD(...) pk_fail(error, PANOKIT_BAD_IMAGE, __VA_ARGS__)

enum { FRACTION = 22 }; /* bits of a weight */

static int bytes_per_pixel(panokit_pixel_format format) {
    return format == PANOKIT_RGB8 ? 3 : format == PANOKIT_YUV420 ? 1 : 4;
}

static int64_t magnitude(ptrdiff_t n) {
    return n < 0 ? -(int64_t)n : (int64_t)n;
}

panokit_status pk_check_image(const panokit_image *image, panokit_error *error) {
    if (!image || !image->data) return BAD("the picture has no pixels: 'data' is NULL");
    if ((int)image->format < 0 || image->format > PANOKIT_YUV420)
        return BAD("the pixel format %d is not known", (int)image->format);
    if (image->width < 1 || image->height < 1)
        return BAD("the picture is %lld x %lld pixels; expected at least 1 x 1", (long long)image->width,
                   (long long)image->height);
    if (image->orientation < 0 || image->orientation > 8)
        return BAD("the orientation is %lld; expected 1 to 8 as in EXIF", (long long)image->orientation);
    if (magnitude(image->row_stride) < (int64_t)image->width * bytes_per_pixel(image->format))
        return BAD("the row stride is %lld bytes; a row of %lld pixels takes %lld",
                   (long long)image->row_stride, (long long)image->width,
                   (long long)image->width * bytes_per_pixel(image->format));
    if (image->format == PANOKIT_YUV420) {
        int64_t chroma = ((int64_t)image->width + 1) / 2;
        if (!image->u || !image->v) return BAD("a YUV picture needs the planes 'u' and 'v'");
        if (image->chroma_step < 1 || image->chroma_step > 16)
            return BAD("the chroma step is %lld bytes; expected 1 (planar) or 2 (interleaved)",
                       (long long)image->chroma_step);
        if (magnitude(image->chroma_row_stride) < (chroma - 1) * image->chroma_step + 1)
            return BAD("the chroma row stride is %lld bytes; a row of %lld samples takes %lld",
                       (long long)image->chroma_row_stride, (long long)chroma,
                       (long long)((chroma - 1) * image->chroma_step + 1));
        if (image->matrix != PANOKIT_BT601 && image->matrix != PANOKIT_BT709)
            return BAD("the YUV matrix %d is not known", (int)image->matrix);
    }
    return PANOKIT_OK;
}

void pk_upright_size(const panokit_image *image, int32_t *width, int32_t *height) {
    int turned = image->orientation >= 5;
    *width = turned ? image->height : image->width;
    *height = turned ? image->width : image->height;
}

/* Where upright row y begins in the buffer, and the step from pixel to pixel along it. */
static void walk_of_row(const panokit_image *image, int32_t y, int32_t *x0, int32_t *y0, int32_t *dx,
                        int32_t *dy) {
    int32_t right = image->width - 1, bottom = image->height - 1;
    *dx = *dy = 0;
    switch (image->orientation) {
        default: *x0 = 0, *y0 = y, *dx = 1; break;
        case 2: *x0 = right, *y0 = y, *dx = -1; break;
        case 3: *x0 = right, *y0 = bottom - y, *dx = -1; break;
        case 4: *x0 = 0, *y0 = bottom - y, *dx = 1; break;
        case 5: *x0 = y, *y0 = 0, *dy = 1; break;
        case 6: *x0 = y, *y0 = bottom, *dy = -1; break;
        case 7: *x0 = right - y, *y0 = bottom, *dy = -1; break;
        case 8: *x0 = right - y, *y0 = 0, *dy = 1; break;
    }
}

static uint8_t over_black(uint32_t value, uint32_t alpha) {
    uint32_t product = value * alpha + 128; /* /255, rounded, as Pillow does it */
    return (uint8_t)((product + (product >> 8)) >> 8);
}

static uint8_t clipped(int32_t sum) { /* 16 bits of fraction */
    sum += 1 << 15;
    if (sum < 0) return 0;
    sum >>= 16;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

static void yuv_row(const panokit_image *image, int32_t x, int32_t y, int32_t dx, int32_t dy,
                    int32_t count, uint8_t *rgb) {
    /* 2^16·(2 - 2·Kr), (2 - 2·Kb)·Kb / Kg, (2 - 2·Kr)·Kr / Kg, 2 - 2·Kb; video range: ·255 / 224 */
    static const int32_t table[2][2][4] = {
        {{104597, 25675, 53279, 132201}, {91881, 22553, 46802, 116130}},
        {{117489, 13975, 34925, 138438}, {103206, 12276, 30679, 121609}}};
    const int32_t *k = table[image->matrix == PANOKIT_BT709][image->full_range != 0];
    int32_t scale = image->full_range ? 65536 : 76309, black = image->full_range ? 0 : 16, i;
    for (i = 0; i < count; i++, x += dx, y += dy, rgb += 3) {
        ptrdiff_t at = (ptrdiff_t)(y >> 1) * image->chroma_row_stride +
                       (ptrdiff_t)(x >> 1) * image->chroma_step;
        int32_t luma = scale * (image->data[(ptrdiff_t)y * image->row_stride + x] - black);
        int32_t u = image->u[at] - 128, v = image->v[at] - 128;
        rgb[0] = clipped(luma + k[0] * v);
        rgb[1] = clipped(luma - k[1] * u - k[2] * v);
        rgb[2] = clipped(luma + k[3] * u);
    }
}

void pk_upright_row(const panokit_image *image, int32_t row, uint8_t *rgb) {
    int32_t x, y, dx, dy, i, count, unused;
    int size = bytes_per_pixel(image->format);
    int swapped = image->format == PANOKIT_BGRX8 || image->format == PANOKIT_BGRA8;
    int alpha = image->format == PANOKIT_RGBA8 || image->format == PANOKIT_BGRA8;
    const uint8_t *p;
    ptrdiff_t step;
    pk_upright_size(image, &count, &unused);
    walk_of_row(image, row, &x, &y, &dx, &dy);
    if (image->format == PANOKIT_YUV420) {
        yuv_row(image, x, y, dx, dy, count, rgb);
        return;
    }
    p = image->data + (ptrdiff_t)y * image->row_stride + (ptrdiff_t)x * size;
    step = dx * size + (ptrdiff_t)dy * image->row_stride;
    for (i = 0; i < count; i++, rgb += 3) {
        rgb[0] = p[swapped ? 2 : 0];
        rgb[1] = p[1];
        rgb[2] = p[swapped ? 0 : 2];
        if (alpha && p[3] != 255) {
            rgb[0] = over_black(rgb[0], p[3]);
            rgb[1] = over_black(rgb[1], p[3]);
            rgb[2] = over_black(rgb[2], p[3]);
        }
        if (i + 1 < count) p += step;
    }
}

/* ---- letterbox ---- */

static int64_t round_half_up(int64_t numerator, int64_t denominator) {
    return (2 * numerator + denominator) / (2 * denominator);
}

panokit_status panokit_letterbox(int32_t photo_width, int32_t photo_height, int32_t input_width,
                                 int32_t input_height, panokit_transform *t) {
    int64_t w0 = photo_width, h0 = photo_height, w = input_width, h = input_height, cw, ch;
    if (!t || w0 < 1 || h0 < 1 || w < 1 || h < 1 || w > PK_MAX_SIDE || h > PK_MAX_SIDE)
        return PANOKIT_BAD_ARGUMENT;
    if (w * h0 <= h * w0) {
        cw = w;
        ch = round_half_up(h0 * w, w0);
    } else {
        cw = round_half_up(w0 * h, h0);
        ch = h;
    }
    if (cw < 1) cw = 1;
    if (ch < 1) ch = 1;
    t->photo_width = photo_width;
    t->photo_height = photo_height;
    t->input_width = input_width;
    t->input_height = input_height;
    t->content_width = (int32_t)cw;
    t->content_height = (int32_t)ch;
    t->left = (int32_t)((w - cw) / 2);
    t->top = (int32_t)((h - ch) / 2);
    return PANOKIT_OK;
}

/* ---- the kernel: a triangle that widens when it shrinks, in fixed point ---- */

static size_t taps_of(int64_t n_in, int64_t n_out) {
    int64_t most = n_in <= n_out ? 3 : 2 * ((n_in + n_out - 1) / n_out) + 1;
    return (size_t)most;
}

static double triangle(double distance) {
    distance = distance < 0 ? -distance : distance;
    return distance < 1 ? 1 - distance : 0;
}

/* Weights of each output, `taps_of` places each, and which inputs they belong to. */
static void make_weights(int32_t n_in, int32_t n_out, int32_t *weights, int32_t *starts,
                         int32_t *counts) {
    double scale = (double)n_in / n_out, widening = scale > 1 ? scale : 1, narrow = 1 / widening;
    size_t most = taps_of(n_in, n_out);
    int32_t i, x;
    for (i = 0; i < n_out; i++, weights += most) {
        double center = (i + 0.5) * scale, total = 0;
        double low = center - widening + 0.5, high = center + widening + 0.5;
        int32_t from = low > 0 ? (int32_t)low : 0, to = high < n_in ? (int32_t)high : n_in;
        for (x = from; x < to; x++) total += triangle((x - center + 0.5) * narrow);
        for (x = from; x < to; x++) {
            double weight = triangle((x - center + 0.5) * narrow) / total;
            weights[x - from] = (int32_t)(0.5 + weight * (1 << FRACTION));
        }
        starts[i] = from;
        counts[i] = to - from;
    }
}

static uint8_t whole(uint32_t sum) { /* weights are positive, and add up to about 2^22 */
    sum >>= FRACTION;
    return (uint8_t)(sum > 255 ? 255 : sum);
}

static void resize_row(const uint8_t *rgb, int32_t n_out, size_t most, const int32_t *weights,
                       const int32_t *starts, const int32_t *counts, uint8_t *out) {
    int32_t i, k;
    for (i = 0; i < n_out; i++, weights += most, out += 3) {
        const uint8_t *p = rgb + 3 * (ptrdiff_t)starts[i];
        uint32_t r = 1u << (FRACTION - 1), g = r, b = r;
        for (k = 0; k < counts[i]; k++, p += 3) {
            uint32_t weight = (uint32_t)weights[k];
            r += p[0] * weight;
            g += p[1] * weight;
            b += p[2] * weight;
        }
        out[0] = whole(r);
        out[1] = whole(g);
        out[2] = whole(b);
    }
}

/* A photo row upright and at its final width. */
static void narrow_row(panokit_session *s, const panokit_image *image, int32_t y, uint8_t *out) {
    const panokit_transform *t = &s->transform;
    const uint8_t *rgb = s->row;
    if (image->format == PANOKIT_RGB8 && image->orientation <= 1) {
        rgb = image->data + (ptrdiff_t)y * image->row_stride;
    } else {
        pk_upright_row(image, y, s->row);
    }
    if (t->content_width == t->photo_width) {
        memcpy(out, rgb, 3 * (size_t)t->photo_width);
    } else {
        resize_row(rgb, t->content_width, taps_of(t->photo_width, t->content_width), s->weights_x,
                   s->start_x, s->count_x, out);
    }
}

static void blend_rows(const uint8_t *ring, size_t row_bytes, size_t slots, int32_t start,
                       int32_t count, const int32_t *weights, uint8_t *out) {
    enum { PART = 512 };
    uint32_t sums[PART];
    size_t from, i;
    int32_t k;
    for (from = 0; from < row_bytes; from += PART) {
        size_t n = row_bytes - from < PART ? row_bytes - from : PART;
        for (i = 0; i < n; i++) sums[i] = 1u << (FRACTION - 1);
        for (k = 0; k < count; k++) {
            const uint8_t *row = ring + ((size_t)(start + k) % slots) * row_bytes + from;
            uint32_t weight = (uint32_t)weights[k];
            for (i = 0; i < n; i++) sums[i] += row[i] * weight;
        }
        for (i = 0; i < n; i++) out[from + i] = whole(sums[i]);
    }
}

panokit_status panokit_preprocess(panokit_session *s, const panokit_image *image,
                                  panokit_error *error) {
    const panokit_transform *t;
    panokit_status status;
    int32_t w0, h0, y, next = 0;
    size_t row_bytes, slots, most_x, most_y, pitch;
    pk_clear(error);
    if (!s) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' is NULL");
    status = pk_check_image(image, error);
    if (status) return status;
    pk_upright_size(image, &w0, &h0);
    s->has_input = 0;
    status = panokit_set_photo(s, w0, h0, error);
    if (status) return status;
    t = &s->transform;
    row_bytes = 3 * (size_t)t->content_width;
    pitch = 3 * (size_t)t->input_width;
    most_x = taps_of(w0, t->content_width);
    most_y = taps_of(h0, t->content_height);
    slots = most_y;
    if (most_x * (size_t)t->content_width > s->weight_room ||
        most_y * (size_t)t->content_height > s->weight_room || slots * row_bytes > s->ring_bytes)
        return pk_fail(error, PANOKIT_TOO_LARGE, "a photo of %ld x %ld pixels is too long and narrow",
                       (long)w0, (long)h0);
    make_weights(w0, t->content_width, s->weights_x, s->start_x, s->count_x);
    make_weights(h0, t->content_height, s->weights_y, s->start_y, s->count_y);
    memset(s->input, 0, pitch * (size_t)t->input_height);
    for (y = 0; y < t->content_height; y++) {
        uint8_t *out = s->input + (size_t)(t->top + y) * pitch + 3 * (size_t)t->left;
        if (t->content_height == h0) {
            narrow_row(s, image, y, out);
            continue;
        }
        if (next < s->start_y[y]) next = s->start_y[y];
        for (; next < s->start_y[y] + s->count_y[y]; next++)
            narrow_row(s, image, next, s->ring + ((size_t)next % slots) * row_bytes);
        blend_rows(s->ring, row_bytes, slots, s->start_y[y], s->count_y[y],
                   s->weights_y + (size_t)y * most_y, out);
    }
    s->has_input = 1;
    return PANOKIT_OK;
}

/* ---- the input tensor ---- */

size_t panokit_input_bytes(const panokit_model *model) {
    static const size_t sizes[] = {1, 1, 2, 2, 4};
    if (!model) return 0;
    return (size_t)model->info.input_width * (size_t)model->info.input_height * 3 *
           sizes[model->info.input.dtype];
}

static void store(void *tensor, size_t i, panokit_dtype dtype, int32_t value) {
    switch (dtype) {
        case PANOKIT_U8: ((uint8_t *)tensor)[i] = (uint8_t)value; break;
        case PANOKIT_I8: ((int8_t *)tensor)[i] = (int8_t)value; break;
        case PANOKIT_I16: ((int16_t *)tensor)[i] = (int16_t)value; break;
        case PANOKIT_F16: ((uint16_t *)tensor)[i] = pk_to_half((float)value); break;
        default: ((float *)tensor)[i] = (float)value; break;
    }
}

/* round(value / scale) + zero point, halves to the even number, clamped to the type. */
static int32_t quantized(int32_t value, const panokit_tensor_spec *spec) {
    static const int32_t least[] = {0, -128, -32768}, most[] = {255, 127, 32767};
    float real = (float)value / spec->scale, below, sum;
    int32_t floor_of;
    if (real > 1e6f) return most[spec->dtype];
    floor_of = (int32_t)real;
    below = real - (float)floor_of;
    if (below > 0.5f || (below == 0.5f && (floor_of & 1))) floor_of++;
    sum = (float)floor_of + (float)spec->zero_point;
    if (sum < (float)least[spec->dtype]) return least[spec->dtype];
    return sum > (float)most[spec->dtype] ? most[spec->dtype] : (int32_t)sum;
}

panokit_status panokit_input(const panokit_session *s, void *tensor, size_t bytes,
                             panokit_error *error) {
    const panokit_tensor_spec *spec;
    int32_t table[256], value;
    size_t i, c, pixels;
    pk_clear(error);
    if (!s || !tensor) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' or 'tensor' is NULL");
    if (!s->has_input)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no input yet: call panokit_preprocess");
    if (bytes != panokit_input_bytes(s->model))
        return pk_fail(error, PANOKIT_NO_ROOM, "the input tensor has %lu bytes, expected %lu",
                       (unsigned long)bytes, (unsigned long)panokit_input_bytes(s->model));
    spec = &s->model->info.input;
    for (value = 0; value < 256; value++) {
        int32_t most = spec->dtype == PANOKIT_I8 ? 127 : 255;
        table[value] = spec->quantized ? quantized(value, spec) : value < most ? value : most;
    }
    pixels = (size_t)spec->width * (size_t)spec->height;
    for (i = 0; i < pixels; i++)
        for (c = 0; c < 3; c++)
            store(tensor, spec->layout == PANOKIT_NCHW ? c * pixels + i : 3 * i + c, spec->dtype,
                  table[s->input[3 * i + c]]);
    return PANOKIT_OK;
}

panokit_status panokit_input_pixels(const panokit_session *s, panokit_pixel_format format,
                                    uint8_t *pixels, size_t row_stride, panokit_error *error) {
    int32_t x, y, w, h;
    int swapped = format == PANOKIT_BGRX8;
    pk_clear(error);
    if (!s || !pixels) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' or 'pixels' is NULL");
    if (!s->has_input)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no input yet: call panokit_preprocess");
    if (format != PANOKIT_RGBX8 && format != PANOKIT_BGRX8)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the format must be RGBX8 or BGRX8");
    w = s->transform.input_width;
    h = s->transform.input_height;
    if (row_stride < 4 * (size_t)w)
        return pk_fail(error, PANOKIT_NO_ROOM, "the row stride must be at least %ld bytes", 4L * w);
    for (y = 0; y < h; y++) {
        const uint8_t *in = s->input + 3 * (size_t)w * (size_t)y;
        uint8_t *out = pixels + row_stride * (size_t)y;
        for (x = 0; x < w; x++, in += 3, out += 4) {
            out[0] = in[swapped ? 2 : 0];
            out[1] = in[1];
            out[2] = in[swapped ? 0 : 2];
            out[3] = 255;
        }
    }
    return PANOKIT_OK;
}

const uint8_t *panokit_input_rgb(const panokit_session *s) {
    return s && s->has_input ? s->input : NULL;
}
