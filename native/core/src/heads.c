/* Raw heads to real values: dequantised, checked, channels last, in the session's own memory. */
#include <string.h>

#include "internal.h"

static const size_t element_bytes[] = {1, 1, 2, 2, 4};

typedef struct source {
    const char *data;
    panokit_dtype dtype;
    ptrdiff_t row, column, channel; /* elements */
    int32_t h, w, c;
} source;

/* Checks that every element lies in the buffer. */
static panokit_status open_source(const panokit_model *model, panokit_head head,
                                  const panokit_tensor *given, source *out, panokit_error *error) {
    const panokit_tensor_spec *spec = &model->info.heads[head];
    uint64_t last;
    size_t size;
    out->h = spec->height;
    out->w = spec->width;
    out->c = spec->channels;
    if (!given->data) return pk_fail_head(error, head, NULL, "is missing: 'data' is NULL");
    if ((int)given->dtype < 0 || given->dtype > PANOKIT_F32)
        return pk_fail_head(error, head, NULL, "the type %d is none of U8, I8, I16, F16 and F32",
                            (int)given->dtype);
    if (given->dtype < PANOKIT_F16 && !spec->quantized)
        return pk_fail_head(error, head, NULL, "holds whole numbers, but the manifest has no scale");
    size = element_bytes[given->dtype];
    out->data = given->data;
    out->dtype = given->dtype;
    out->row = given->row_stride;
    out->column = given->column_stride;
    out->channel = given->channel_stride;
    if (!out->row && !out->column && !out->channel) {
        if (spec->layout == PANOKIT_NCHW) {
            out->channel = (ptrdiff_t)out->h * out->w;
            out->row = out->w;
            out->column = 1;
        } else {
            out->row = (ptrdiff_t)out->w * out->c;
            out->column = out->c;
            out->channel = 1;
        }
    }
    if (out->row < 0 || out->column < 0 || out->channel < 0)
        return pk_fail_head(error, head, NULL, "has a negative stride");
    if ((uint64_t)out->row > PK_MAX_BYTES || (uint64_t)out->column > PK_MAX_BYTES ||
        (uint64_t)out->channel > PK_MAX_BYTES)
        return pk_fail_head(error, head, NULL, "has a stride of more than 2^30 elements");
    if ((out->h > 1 && !out->row) || (out->w > 1 && !out->column) || (out->c > 1 && !out->channel))
        return pk_fail_head(error, head, NULL, "has a stride of 0 along an axis of several elements");
    last = (uint64_t)(out->h - 1) * (uint64_t)out->row +
           (uint64_t)(out->w - 1) * (uint64_t)out->column +
           (uint64_t)(out->c - 1) * (uint64_t)out->channel;
    if (last >= given->bytes / size)
        return pk_fail_head(error, head, NULL,
                            "needs %llu bytes with these strides, the buffer has %llu",
                            (unsigned long long)((last + 1) * size),
                            (unsigned long long)given->bytes);
    return PANOKIT_OK;
}

/* One row of a channel run, `n` elements `step` apart. */
static void read_run(const source *s, size_t first, size_t step, int32_t n, const float *table,
                     float scale, float zero, float *out) {
    int32_t i;
    switch (s->dtype) {
        case PANOKIT_U8: {
            const uint8_t *p = (const uint8_t *)s->data + first;
            for (i = 0; i < n; i++) out[i] = table[p[(size_t)i * step]];
            break;
        }
        case PANOKIT_I8: {
            const uint8_t *p = (const uint8_t *)s->data + first;
            for (i = 0; i < n; i++) out[i] = table[p[(size_t)i * step] ^ 0x80u];
            break;
        }
        case PANOKIT_I16: {
            const char *p = s->data + 2 * first;
            for (i = 0; i < n; i++) {
                int16_t value;
                float centred;
                memcpy(&value, p + 2 * ((size_t)i * step), sizeof value);
                centred = (float)value - zero;
                out[i] = centred * scale;
            }
            break;
        }
        case PANOKIT_F16: {
            const char *p = s->data + 2 * first;
            for (i = 0; i < n; i++) {
                uint16_t bits;
                memcpy(&bits, p + 2 * ((size_t)i * step), sizeof bits);
                out[i] = pk_half(bits);
            }
            break;
        }
        default: {
            const char *p = s->data + 4 * first;
            if (step == 1) {
                memcpy(out, p, 4 * (size_t)n);
                break;
            }
            for (i = 0; i < n; i++) memcpy(out + i, p + 4 * ((size_t)i * step), 4);
        }
    }
}

/* (q - zero point)·scale of every 8-bit number, in the order of the unsigned ones. */
static void make_table(const panokit_tensor_spec *spec, panokit_dtype dtype, float *table) {
    int32_t q;
    for (q = 0; q < 256; q++) {
        float centred = (float)(dtype == PANOKIT_I8 ? q - 128 : q) - (float)spec->zero_point;
        table[q] = centred * spec->scale;
    }
}

/* The first number of a row that cannot be decoded, or -1. */
static int32_t first_bad(const float *values, int32_t n) {
    int32_t i, bad = 0;
    for (i = 0; i < n; i++) bad |= !(values[i] >= -PK_MAX_MAGNITUDE) | !(values[i] <= PK_MAX_MAGNITUDE);
    if (!bad) return -1;
    for (i = 0; values[i] >= -PK_MAX_MAGNITUDE && values[i] <= PK_MAX_MAGNITUDE;) i++;
    return i;
}

static panokit_status bad_number(panokit_head head, float value, int32_t y, int32_t x, int32_t c,
                                 panokit_error *error) {
    int32_t position[3];
    position[0] = y;
    position[1] = x;
    position[2] = c;
    return pk_fail_head(error, head, position,
                        "expected finite numbers of at most 1e38 in magnitude, got %g at row %ld, "
                        "column %ld, channel %ld",
                        (double)value, (long)y, (long)x, (long)c);
}

static panokit_status read_head(panokit_session *s, panokit_head head, const panokit_tensor *given,
                                float *out, int32_t padded, panokit_error *error) {
    const panokit_tensor_spec *spec = &s->model->info.heads[head];
    source from;
    int32_t y, x, c, at;
    int eight_bit;
    panokit_status status;
    memset(&from, 0, sizeof from);
    status = open_source(s->model, head, given, &from, error);
    if (status) return status;
    eight_bit = from.dtype <= PANOKIT_I8;
    if (eight_bit) make_table(spec, from.dtype, s->table);
    if (eight_bit && first_bad(s->table, 256) >= 0) eight_bit = 0; /* a huge scale: look closer */
    for (y = 0; y < from.h; y++) {
        float *row = out + (size_t)y * (size_t)from.w * (size_t)padded;
        if (from.channel == 1 || from.c == 1) {
            for (x = 0; x < from.w; x++)
                read_run(&from, (size_t)y * (size_t)from.row + (size_t)x * (size_t)from.column, 1,
                         from.c, s->table, spec->scale, (float)spec->zero_point,
                         row + (size_t)x * (size_t)padded);
        } else {
            for (c = 0; c < from.c; c++) { /* planes: a row of each at a time */
                read_run(&from, (size_t)y * (size_t)from.row + (size_t)c * (size_t)from.channel,
                         (size_t)from.column, from.w, s->table, spec->scale,
                         (float)spec->zero_point, s->line);
                for (x = 0; x < from.w; x++) row[(size_t)x * (size_t)padded + (size_t)c] = s->line[x];
            }
        }
        for (x = 0; x < from.w; x++)
            for (c = from.c; c < padded; c++) /* changes no highest or lowest */
                row[(size_t)x * (size_t)padded + (size_t)c] = row[(size_t)x * (size_t)padded];
        at = eight_bit ? -1 : first_bad(row, from.w * padded);
        if (at >= 0) return bad_number(head, row[at], y, at / padded, at % padded, error);
    }
    return PANOKIT_OK;
}

panokit_status pk_read_heads(panokit_session *s, const panokit_tensor heads[3],
                             panokit_error *error) {
    panokit_status status = read_head(s, PANOKIT_SEMANTIC, &heads[0], s->semantic, s->padded, error);
    if (!status) status = read_head(s, PANOKIT_CENTER, &heads[1], s->center, 1, error);
    if (!status) status = read_head(s, PANOKIT_OFFSET, &heads[2], s->offset, 2, error);
    return status;
}
