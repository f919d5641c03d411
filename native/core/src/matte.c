/* From the network's coarse mask to a soft matte that follows the photo's own edges: the SDK's good
 * matte (panokit.effects), two guided filters (He, Sun, Tang 2010) on a grid of at most 384 cells a
 * side, then the coefficients applied to the photo's own pixels. Equal to the SDK but for the last
 * digits of its sums. */
#include <string.h>

#include "internal.h"

enum { GUIDE_SIDE = 384, MOMENTS = 13 };
static const double EPSILON = 2e-5;

size_t pk_matte_cells(void) {
    return (size_t)GUIDE_SIDE * GUIDE_SIDE;
}

static int32_t max_i(int32_t a, int32_t b) { return a > b ? a : b; }
static int32_t min_i(int32_t a, int32_t b) { return a < b ? a : b; }

/* round(x), halves to even, at least 1 */
static int32_t radius_of(double x) {
    int32_t n = (int32_t)x;
    double rest = x - n;
    if (rest > 0.5 || (rest == 0.5 && (n & 1))) n++;
    return max_i(1, n);
}

/* ---- boxes: sums of a window that is cut off at the borders ---- */

/* The cell's `n` numbers that are summed. */
typedef void (*terms_of)(const void *context, size_t cell, double *terms);

static void add_row(double *columns, int32_t w, int n, terms_of terms, const void *context,
                    size_t first, double sign) {
    double part[MOMENTS + 1];
    int32_t x;
    int i;
    for (x = 0; x < w; x++, columns += n) {
        terms(context, first + (size_t)x, part);
        for (i = 0; i < n; i++) columns[i] += sign * part[i];
    }
}

/* Calls `emit` with the window sums of every cell. */
static void each_window(int32_t h, int32_t w, int32_t radius, int n, double *columns, terms_of terms,
                        const void *context, void (*emit)(void *, size_t, const double *), void *to) {
    double sums[MOMENTS + 1];
    int32_t y, x;
    int i;
    memset(columns, 0, sizeof *columns * (size_t)w * (size_t)n);
    for (y = 0; y < min_i(radius, h); y++)
        add_row(columns, w, n, terms, context, (size_t)y * (size_t)w, 1);
    for (y = 0; y < h; y++) {
        if (y + radius < h)
            add_row(columns, w, n, terms, context, (size_t)(y + radius) * (size_t)w, 1);
        if (y - radius - 1 >= 0)
            add_row(columns, w, n, terms, context, (size_t)(y - radius - 1) * (size_t)w, -1);
        memset(sums, 0, sizeof sums);
        for (x = 0; x < min_i(radius, w); x++)
            for (i = 0; i < n; i++) sums[i] += columns[(size_t)x * n + i];
        for (x = 0; x < w; x++) {
            if (x + radius < w)
                for (i = 0; i < n; i++) sums[i] += columns[(size_t)(x + radius) * n + i];
            if (x - radius - 1 >= 0)
                for (i = 0; i < n; i++) sums[i] -= columns[(size_t)(x - radius - 1) * n + i];
            emit(to, (size_t)y * (size_t)w + (size_t)x, sums);
        }
    }
}

/* ---- the guided filter ---- */

typedef struct guided {
    const float *guide, *values;
    double *lines; /* a (3) and b of every cell */
    double *out;   /* their means */
    double epsilon;
} guided;

static void moment_terms(const void *context, size_t cell, double *t) {
    const guided *g = context;
    double r = g->guide[3 * cell], gr = g->guide[3 * cell + 1], b = g->guide[3 * cell + 2];
    double p = g->values[cell];
    t[0] = r, t[1] = gr, t[2] = b, t[3] = p;
    t[4] = r * p, t[5] = gr * p, t[6] = b * p;
    t[7] = r * r, t[8] = r * gr, t[9] = r * b;
    t[10] = gr * gr, t[11] = gr * b, t[12] = b * b;
    t[13] = 1;
}

/* The line through a window: a symmetric 3x3 system, solved by its adjugate. */
static void fit_line(void *to, size_t cell, const double *sums) {
    guided *g = to;
    double m[MOMENTS], count = sums[13], *line = g->lines + 4 * cell;
    double rr, rg, rb, gg, gb, bb, cr, cg, cb, irr, irg, irb, igg, igb, ibb, determinant;
    int i;
    for (i = 0; i < MOMENTS; i++) m[i] = sums[i] / count;
    cr = m[4] - m[0] * m[3], cg = m[5] - m[1] * m[3], cb = m[6] - m[2] * m[3];
    rr = m[7] - m[0] * m[0] + g->epsilon, rg = m[8] - m[0] * m[1], rb = m[9] - m[0] * m[2];
    gg = m[10] - m[1] * m[1] + g->epsilon, gb = m[11] - m[1] * m[2];
    bb = m[12] - m[2] * m[2] + g->epsilon;
    irr = gg * bb - gb * gb, irg = gb * rb - rg * bb, irb = rg * gb - gg * rb;
    igg = rr * bb - rb * rb, igb = rb * rg - rr * gb, ibb = rr * gg - rg * rg;
    determinant = rr * irr + rg * irg + rb * irb;
    line[0] = (irr * cr + irg * cg + irb * cb) / determinant;
    line[1] = (irg * cr + igg * cg + igb * cb) / determinant;
    line[2] = (irb * cr + igb * cg + ibb * cb) / determinant;
    line[3] = m[3] - (line[0] * m[0] + line[1] * m[1] + line[2] * m[2]);
}

static void line_terms(const void *context, size_t cell, double *t) {
    const guided *g = context;
    memcpy(t, g->lines + 4 * cell, 4 * sizeof *t);
    t[4] = 1;
}

static void mean_line(void *to, size_t cell, const double *sums) {
    guided *g = to;
    int i;
    for (i = 0; i < 4; i++) g->out[4 * cell + (size_t)i] = sums[i] / sums[4];
}

static void filter(guided *g, int32_t h, int32_t w, int32_t radius, double *columns) {
    each_window(h, w, radius, MOMENTS + 1, columns, moment_terms, g, fit_line, g);
    each_window(h, w, max_i(1, radius / 2), 5, columns, line_terms, g, mean_line, g);
}

/* ---- masks ---- */

/* The mask widened by `radius` each way (a square); `value` 0 widens the zeros: the mask narrows. */
static void widen(uint8_t *mask, int32_t h, int32_t w, int32_t radius, uint8_t value, uint8_t *scratch,
                  int32_t *since) {
    int32_t y, x, d;
    for (y = 0; y < h; y++) {
        const uint8_t *in = mask + (size_t)y * (size_t)w;
        uint8_t *out = scratch + (size_t)y * (size_t)w;
        for (x = 0, d = 1 << 20; x < w; x++) {
            d = in[x] == value ? 0 : d + 1;
            out[x] = d <= radius;
        }
        for (x = w - 1, d = 1 << 20; x >= 0; x--) {
            d = in[x] == value ? 0 : d + 1;
            out[x] |= d <= radius;
        }
    }
    for (x = 0; x < w; x++) since[x] = 1 << 20;
    for (y = 0; y < h; y++) {
        const uint8_t *in = scratch + (size_t)y * (size_t)w;
        uint8_t *out = mask + (size_t)y * (size_t)w;
        for (x = 0; x < w; x++) {
            since[x] = in[x] ? 0 : since[x] + 1;
            out[x] = since[x] <= radius;
        }
    }
    for (x = 0; x < w; x++) since[x] = 1 << 20;
    for (y = h - 1; y >= 0; y--) {
        const uint8_t *in = scratch + (size_t)y * (size_t)w;
        uint8_t *out = mask + (size_t)y * (size_t)w;
        for (x = 0; x < w; x++) {
            since[x] = in[x] ? 0 : since[x] + 1;
            out[x] = (uint8_t)((out[x] | (since[x] <= radius)) ? value : !value);
        }
    }
}

static void threshold(const float *values, size_t n, uint8_t *mask) {
    size_t i;
    for (i = 0; i < n; i++) mask[i] = values[i] > 0.5f;
}

static void flag_terms(const void *context, size_t cell, double *t) {
    t[0] = ((const uint8_t *)context)[cell];
    t[1] = 1;
}

static void put_inner(void *to, size_t cell, const double *sums) {
    float mean = (float)(sums[0] / sums[1]);
    ((float *)to)[6 * cell + 4] = mean > (float)(1 - 1e-6) ? 1.0f : mean;
}

static void put_outer(void *to, size_t cell, const double *sums) {
    ((float *)to)[6 * cell + 5] = (float)(sums[0] / sums[1]);
}

/* ---- the parts of the matte ---- */

typedef struct work {
    panokit_session *s;
    const panokit_image *image;
    const uint8_t *chosen; /* by id */
    int32_t w0, h0, w, h, factor;
    double side; /* pixels of the network's input in cells of the coarse grid */
} work;

/* Whether each pixel of a photo row lies in the mask. */
static const uint8_t *mask_row(const work *j, int32_t y) {
    const panokit_session *s = j->s;
    const int32_t *row = s->ids + (size_t)pk_grid_row(s, y) * (size_t)s->grid_x.n;
    int32_t x;
    for (x = 0; x < s->grid_x.n; x++)
        if (s->mult_x[x])
            memset(s->ring + s->first_x[x], j->chosen[row[x]], (size_t)s->mult_x[x]);
    return s->ring;
}

/* Means of the photo (0..1) and of the mask over cells of factor x factor pixels. */
static void make_coarse(const work *j) {
    const pk_matte_memory *m = &j->s->matte;
    int32_t *sums = m->counts, y, x, k, c, f = j->factor;
    float pixels = (float)(f * f);
    for (y = 0; y < j->h; y++) {
        const uint8_t *inside = NULL;
        int32_t before = -1;
        memset(sums, 0, sizeof *sums * 4 * (size_t)j->w);
        for (k = 0; k < f; k++) {
            int32_t at = min_i(y * f + k, j->h0 - 1);
            if (at != before) {
                pk_upright_row(j->image, at, j->s->row);
                inside = mask_row(j, at);
                before = at;
            }
            for (x = 0; x < j->w * f; x++) {
                int32_t from = min_i(x, j->w0 - 1);
                int32_t *to = sums + 4 * (x / f);
                for (c = 0; c < 3; c++) to[c] += j->s->row[3 * (size_t)from + (size_t)c];
                to[3] += inside[from];
            }
        }
        for (x = 0; x < j->w; x++) {
            size_t cell = (size_t)y * (size_t)j->w + (size_t)x;
            for (c = 0; c < 3; c++) m->guide[3 * cell + (size_t)c] = (float)sums[4 * x + c] / pixels / 255.0f;
            m->mask[cell] = (float)sums[4 * x + 3] / pixels;
        }
    }
}

/* Two by two cells of the coarse grid: guide in m->wide, mask behind it. */
static void halve(const work *j, int32_t h, int32_t w, float *guide, float *mask) {
    const pk_matte_memory *m = &j->s->matte;
    int32_t y, x, c;
    for (y = 0; y < h; y++) {
        size_t up = (size_t)(2 * y) * (size_t)j->w, down = (size_t)min_i(2 * y + 1, j->h - 1) * (size_t)j->w;
        for (x = 0; x < w; x++) {
            size_t left = (size_t)(2 * x), right = (size_t)min_i(2 * x + 1, j->w - 1);
            size_t cell = (size_t)y * (size_t)w + (size_t)x;
            for (c = 0; c < 3; c++) {
                const float *g = m->guide + c;
                float a = g[3 * (up + left)] + g[3 * (down + left)];
                float b = g[3 * (up + right)] + g[3 * (down + right)];
                guide[3 * cell + (size_t)c] = (a + b) / 4;
            }
            {
                float a = m->mask[up + left] + m->mask[down + left];
                float b = m->mask[up + right] + m->mask[down + right];
                mask[cell] = (a + b) / 4;
            }
        }
    }
}

static float clip01(float v) { return v < 0 ? 0 : v > 1 ? 1 : v; }

static float snap(float value, float by) {
    return clip01((value - by) / (float)(1 - 2 * (double)by));
}

static void taps(int32_t pixel, int32_t factor, int32_t cells, int32_t *low, int32_t *high, double *t) {
    double at = (pixel + 0.5) / factor - 0.5;
    at = at < 0 ? 0 : at > cells - 1 ? cells - 1 : at;
    *low = (int32_t)at;
    *high = min_i(*low + 1, cells - 1);
    *t = at - *low;
}

/* The wide filter: what the object looks like, learned from both sides of its edge. */
static void look_wide(const work *j) {
    const pk_matte_memory *m = &j->s->matte;
    int32_t h = (j->h + 1) / 2, w = (j->w + 1) / 2, y, x, c;
    size_t n = (size_t)h * (size_t)w;
    double side = j->side / 2;
    float *guide = m->wide, *mask = m->wide + 3 * n;
    guided g = {NULL, NULL, NULL, NULL, 0};
    halve(j, h, w, guide, mask);
    g.guide = guide, g.values = mask, g.lines = m->sums;
    g.out = m->coefficients, g.epsilon = EPSILON;
    filter(&g, h, w, radius_of(10 * side), m->columns);
    for (y = 0; y < j->h; y++) {
        int32_t y0, y1, x0, x1;
        double ty, tx;
        taps(y, 2, h, &y0, &y1, &ty);
        for (x = 0; x < j->w; x++) {
            size_t cell = (size_t)y * (size_t)j->w + (size_t)x;
            const double *a, *b, *d, *e;
            double value = 0;
            taps(x, 2, w, &x0, &x1, &tx);
            a = m->coefficients + 4 * ((size_t)y0 * (size_t)w + (size_t)x0);
            b = m->coefficients + 4 * ((size_t)y0 * (size_t)w + (size_t)x1);
            d = m->coefficients + 4 * ((size_t)y1 * (size_t)w + (size_t)x0);
            e = m->coefficients + 4 * ((size_t)y1 * (size_t)w + (size_t)x1);
            for (c = 0; c < 4; c++) {
                double left = a[c] + (d[c] - a[c]) * ty, right = b[c] + (e[c] - b[c]) * ty;
                double here = left + (right - left) * tx;
                value += c < 3 ? here * (double)m->guide[3 * cell + (size_t)c] : here;
            }
            m->first[cell] = snap((float)value, 0.05f);
        }
    }
}

/* The narrow filter, and the least and the most that the matte may be. */
static void look_close(const work *j) {
    const pk_matte_memory *m = &j->s->matte;
    size_t n = (size_t)j->h * (size_t)j->w, i;
    int32_t blur = radius_of(2 * j->side);
    guided g = {NULL, NULL, NULL, NULL, 0};
    g.guide = m->guide, g.values = m->first, g.lines = m->sums, g.out = m->coefficients;
    g.epsilon = EPSILON;
    filter(&g, j->h, j->w, radius_of(6 * j->side), m->columns);
    threshold(m->mask, n, m->flag);
    widen(m->flag, j->h, j->w, radius_of(5 * j->side), 0, m->flag2, m->counts);
    each_window(j->h, j->w, blur, 2, m->columns, flag_terms, m->flag, put_inner, m->fields);
    threshold(m->mask, n, m->flag);
    widen(m->flag, j->h, j->w, radius_of(12 * j->side), 1, m->flag2, m->counts);
    each_window(j->h, j->w, blur, 2, m->columns, flag_terms, m->flag, put_outer, m->fields);
    for (i = 0; i < n; i++) {
        const double *k = m->coefficients + 4 * i;
        const float *p = m->guide + 3 * i;
        float *field = m->fields + 6 * i;
        float value = (float)((k[0] * (double)p[0] + k[1] * (double)p[1] + k[2] * (double)p[2]) + k[3]);
        int c;
        value = snap(value, 0.15f);
        value = value < field[4] ? field[4] : value;
        m->found[i] = value > field[5] ? field[5] : value;
        for (c = 0; c < 4; c++) field[c] = (float)k[c];
        m->flag[i] = m->found[i] > 0.02f && m->found[i] < 0.98f;
    }
    widen(m->flag, j->h, j->w, 2, 1, m->flag2, m->counts);
    if (j->factor == 1) memset(m->flag, 1, n);
}

/* A pixel where the coarse matte is undecided: the coefficients meet the photo itself. */
static float refined(const work *j, int32_t y, int32_t x) {
    const float *fields = j->s->matte.fields;
    const uint8_t *rgb = j->s->row + 3 * (size_t)x;
    int32_t y0, y1, x0, x1, c;
    double dy, dx;
    float ty, tx, local[6], value;
    taps(y, j->factor, j->h, &y0, &y1, &dy);
    taps(x, j->factor, j->w, &x0, &x1, &dx);
    ty = (float)dy, tx = (float)dx;
    for (c = 0; c < 6; c++) {
        float a = fields[6 * ((size_t)y0 * (size_t)j->w + (size_t)x0) + (size_t)c];
        float b = fields[6 * ((size_t)y0 * (size_t)j->w + (size_t)x1) + (size_t)c];
        float d = fields[6 * ((size_t)y1 * (size_t)j->w + (size_t)x0) + (size_t)c];
        float e = fields[6 * ((size_t)y1 * (size_t)j->w + (size_t)x1) + (size_t)c];
        a += (b - a) * tx;
        d += (e - d) * tx;
        local[c] = a + (d - a) * ty;
    }
    value = local[0] * (rgb[0] / 255.0f) + local[1] * (rgb[1] / 255.0f) + local[2] * (rgb[2] / 255.0f);
    value = snap(value + local[3], 0.15f);
    value = value < local[4] ? local[4] : value;
    value = value > local[5] ? local[5] : value;
    /* What a bilinear fence leaves of a thousandth is no soft edge. */
    return value < 2e-3f ? 0.0f : value > 1 - 2e-3f ? 1.0f : value;
}

static void refine(const work *j, float *alpha, size_t row_stride) {
    const pk_matte_memory *m = &j->s->matte;
    int32_t y, x;
    for (y = 0; y < j->h0; y++, alpha += row_stride) {
        size_t line = (size_t)(y / j->factor) * (size_t)j->w;
        pk_upright_row(j->image, y, j->s->row);
        for (x = 0; x < j->w0; x++) {
            size_t cell = line + (size_t)(x / j->factor);
            alpha[x] = m->flag[cell] ? refined(j, y, x) : m->found[cell] >= 0.5f ? 1.0f : 0.0f;
        }
    }
}

panokit_status panokit_matte(panokit_session *s, const panokit_image *image, const int32_t *ids,
                             int32_t count, float *alpha, size_t row_stride, panokit_error *error) {
    panokit_status status;
    uint8_t *chosen;
    work j;
    int32_t i, w, h;
    double cell, other;
    pk_clear(error);
    if (!s || !s->has_result)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no result yet: call panokit_decode");
    if (!s->options.matte)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the session was not opened with 'matte'");
    status = pk_check_image(image, error);
    if (status) return status;
    pk_upright_size(image, &w, &h);
    if (w != s->transform.photo_width || h != s->transform.photo_height)
        return pk_fail(error, PANOKIT_BAD_IMAGE, "the picture is %ld x %ld pixels, the segmented one "
                       "was %ld x %ld", (long)w, (long)h, (long)s->transform.photo_width,
                       (long)s->transform.photo_height);
    if (!alpha || row_stride < (size_t)w || (count > 0 && !ids) || count < 0)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'alpha' or 'ids' is NULL, or the stride too small");
    chosen = (uint8_t *)(void *)s->touching;
    memset(chosen, 0, (size_t)s->segment_count + 1);
    for (i = 0; i < count; i++) {
        if (ids[i] < 1 || ids[i] > s->segment_count)
            return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no segment %ld", (long)ids[i]);
        chosen[ids[i]] = 1;
    }
    j.s = s;
    j.image = image;
    j.chosen = chosen;
    j.w0 = w, j.h0 = h;
    j.factor = (max_i(w, h) + GUIDE_SIDE - 1) / GUIDE_SIDE;
    j.w = (w + j.factor - 1) / j.factor;
    j.h = (h + j.factor - 1) / j.factor;
    cell = (double)w / s->transform.content_width;
    other = (double)h / s->transform.content_height;
    cell = cell > other ? cell : other;
    j.side = (cell > 1 ? cell : 1) / j.factor;
    make_coarse(&j);
    look_wide(&j);
    look_close(&j);
    refine(&j, alpha, row_stride);
    return PANOKIT_OK;
}
