/* Heads to a panoptic map, equal to the bit with the reference (docs/port.md).
 *
 * It is fast because most is never computed. The grid falls into blocks of pixels between the same
 * four head cells. In a block a resized logit lies between the lowest and the highest of its
 * corners, so that few channels can win, and few count in the sum of exponentials; likewise few
 * centres can be the nearest. Those few are computed as the reference does it. */
#include <string.h>

#include "lanes.h"

#define BLOCK_SLACK 4e-6f  /* roundings of a resized value, relative to the largest corner: 20·2^-24 is 1.2e-6 */
#define NEAR_SLACK 1.00001f /* float distances differ from real ones by less */

static float mix(float a, float b, float f) {
    float step = b - a, part = step * f;
    return a + part;
}

typedef struct block {
    const float *corner[4]; /* upper left, upper right, lower left, lower right; all channels */
    int32_t y0, y1, x0, x1; /* pixels on the photo */
    const float *fy, *fx;   /* weights by absolute row and column */
    float step_y, step_x;   /* by which they grow */
} block;

/* ---- classes ---- */

enum { SIDE = 8 }; /* pixels of a piece of a block */
static const float WIDE = 40.0f;  /* a logit that changes more within a block is summed by itself */
static const float LARGE = 64.0f; /* and all are where they are so large that their roundings tell */

typedef struct choice {
    int32_t maybe, wide; /* how many channels may win, and how many change too much */
    float base;          /* the least that the winner's logit can be */
    float counts_from;   /* what lies below adds nothing to the sum */
    int large;           /* all channels that count are summed by themselves */
    int slow;            /* logits so far apart that float exponentials overflow */
} choice;

static void note_channels(const panokit_session *s, i4 mask, int32_t first, int32_t *list, int32_t *n) {
    int32_t lane[4], i;
    if (!i4_any(mask)) return;
    i4_store(lane, mask);
    for (i = 0; i < 4 && first + i < s->channels; i++)
        if (lane[i]) list[(*n)++] = first + i;
}

static choice choose(panokit_session *s, const block *b) {
    const float *p = b->corner[0], *q = b->corner[1], *r = b->corner[2], *t = b->corner[3];
    f4 base = f4_all(-FLT_MAX), top = base, bottom = f4_all(FLT_MAX), at_least, counts_from;
    float highest, size, least;
    choice found = {0, 0, 0, 0, 0, 0};
    int32_t c;
    for (c = 0; c < s->padded; c += 4) {
        f4 a = f4_load(p + c), e = f4_load(q + c), g = f4_load(r + c), h = f4_load(t + c);
        f4 high = f4_max(f4_max(a, e), f4_max(g, h)), low = f4_min(f4_min(a, e), f4_min(g, h));
        f4_store(s->high + c, high);
        f4_store(s->low + c, low);
        base = f4_max(base, low);
        top = f4_max(top, high);
        bottom = f4_min(bottom, low);
    }
    found.base = f4_highest(base);
    highest = f4_highest(top);
    least = f4_lowest(bottom);
    size = highest > -least ? highest : -least;
    found.large = size > LARGE;
    found.slow = !(highest - found.base < 80.0f);
    found.counts_from = found.base - s->negligible;
    at_least = f4_all(found.base - size * BLOCK_SLACK);
    counts_from = f4_all(found.counts_from);
    for (c = 0; c < s->padded; c += 4) {
        f4 high = f4_load(s->high + c);
        note_channels(s, f4_most(high, at_least), c, s->maybe, &found.maybe);
        if (found.large || highest - least > WIDE) {
            f4 change = f4_sub(high, f4_load(s->low + c));
            i4 wide = f4_more(change, f4_all(found.large ? -1.0f : WIDE));
            note_channels(s, i4_and(wide, f4_most(high, counts_from)), c, s->wide, &found.wide);
        }
    }
    return found;
}

static f4 resized4(const block *b, int32_t channel, f4 fx, f4 fy) {
    f4 upper = f4_mix(f4_all(b->corner[0][channel]), f4_all(b->corner[1][channel]), fx);
    f4 lower = f4_mix(f4_all(b->corner[2][channel]), f4_all(b->corner[3][channel]), fx);
    return f4_mix(upper, lower, fy);
}

static float resized(const block *b, int32_t channel, int32_t y, int32_t x) {
    float upper = mix(b->corner[0][channel], b->corner[1][channel], b->fx[x]);
    float lower = mix(b->corner[2][channel], b->corner[3][channel], b->fx[x]);
    return mix(upper, lower, b->fy[y]);
}

/* Exponentials of numbers that change evenly over a piece of a block, lanes are channels: each is
 * the one to its left times a ratio, and the first of a row and the ratio change by ratios too. */
typedef struct evenly {
    f4 first, ratio_x, ratio_y, ratio_xy;
} evenly;

/* e^(logit - base) of four channels; 0 for those that do not count. A resized logit is
 * a + dx·fx + dy·fy + dxy·fx·fy. */
static int start_evenly(const panokit_session *s, const block *b, const choice *c, int32_t channel,
                        int32_t y0, int32_t x0, evenly *out) {
    f4 high = f4_load(s->high + channel), low = f4_load(s->low + channel), scale = f4_all(PK_LOG2E);
    i4 keep = i4_and(f4_most(high, f4_all(c->counts_from)), f4_most(f4_all(WIDE), f4_sub(high, low)));
    f4 fx = f4_all(b->fx[x0]), fy = f4_all(b->fy[y0]), a, dx, dy, dxy, first;
    f4 step_x = f4_all(b->step_x * PK_LOG2E), step_y = f4_all(b->step_y * PK_LOG2E);
    if (channel + 4 > s->channels) keep = i4_and(keep, i4_first(s->channels - channel));
    if (!i4_any(keep)) return 0;
    a = f4_keep(keep, f4_load(b->corner[0] + channel));
    dx = f4_sub(f4_keep(keep, f4_load(b->corner[1] + channel)), a);
    dy = f4_sub(f4_keep(keep, f4_load(b->corner[2] + channel)), a);
    dxy = f4_sub(f4_sub(f4_keep(keep, f4_load(b->corner[3] + channel)), a), f4_add(dx, dy));
    dy = f4_add(dy, f4_mul(dxy, fx)); /* down the first column */
    first = f4_add(f4_add(f4_mul(dx, fx), f4_mul(dy, fy)), f4_sub(a, f4_all(c->base)));
    out->first = f4_keep(keep, f4_exp2(f4_mul(first, scale)));
    out->ratio_x = f4_exp2(f4_mul(f4_add(dx, f4_mul(dxy, fy)), step_x));
    out->ratio_y = f4_exp2(f4_mul(dy, step_y));
    out->ratio_xy = f4_exp2(f4_mul(dxy, f4_mul(step_x, f4_all(b->step_y))));
    return 1;
}

/* Adds n of them to `total` [ny][nx]. */
static void add_evenly(evenly *e, int32_t n, int32_t ny, int32_t nx, f4 *total) {
    int32_t y, x, k;
    for (y = 0; y < ny; y++, total += nx) {
        for (k = 0; k < n; k++) {
            f4 value = e[k].first;
            for (x = 0; x < nx; x++) {
                total[x] = f4_add(total[x], value);
                value = f4_mul(value, e[k].ratio_x);
            }
            e[k].first = f4_mul(e[k].first, e[k].ratio_y);
            e[k].ratio_x = f4_mul(e[k].ratio_x, e[k].ratio_xy);
        }
    }
}

/* The same for four pixels a row, the usual stride: a row's sums stay in registers. */
static void add_evenly4(evenly *e, int32_t n, int32_t ny, f4 *total) {
    int32_t y, k;
    for (y = 0; y < ny; y++, total += 4) {
        f4 a = total[0], b = total[1], c = total[2], d = total[3];
        for (k = 0; k < n; k++) {
            f4 value = e[k].first, ratio = e[k].ratio_x, second = f4_mul(value, ratio);
            f4 square = f4_mul(ratio, ratio);
            a = f4_add(a, value);
            b = f4_add(b, second);
            c = f4_add(c, f4_mul(value, square));
            d = f4_add(d, f4_mul(second, square));
            e[k].first = f4_mul(value, e[k].ratio_y);
            e[k].ratio_x = f4_mul(ratio, e[k].ratio_xy);
        }
        total[0] = a;
        total[1] = b;
        total[2] = c;
        total[3] = d;
    }
}

enum { BATCH = 8 }; /* groups of four channels at a time */

static void add_channels(const panokit_session *s, const block *b, const choice *c, int32_t y0,
                         int32_t x0, int32_t ny, int32_t nx, f4 *total) {
    evenly batch[BATCH];
    int32_t channel, n = 0;
    for (channel = 0; channel < s->padded; channel += 4) {
        n += start_evenly(s, b, c, channel, y0, x0, &batch[n]);
        if (n < BATCH && channel + 4 < s->padded) continue;
        if (nx == 4) {
            add_evenly4(batch, n, ny, total);
        } else {
            add_evenly(batch, n, ny, nx, total);
        }
        n = 0;
    }
}

static float slow_probability(const panokit_session *s, const block *b, int32_t channel, int32_t y,
                              int32_t x) {
    double peak = resized(b, channel, y, x), total = 0;
    int32_t c;
    for (c = 0; c < s->channels; c++) total += pk_exp((double)resized(b, c, y, x) - peak);
    return (float)(1 / total);
}

/* The winners of a strip of a piece, four pixels wide: e^(logit - base) in `likely`, by row. */
static void find_winners(const panokit_session *s, const block *b, const choice *c, int32_t y0, int32_t x,
                         int32_t ny, f4 *likely, i4 *winner) {
    f4 peak[SIDE], fx = f4_load(b->fx + x), base = f4_all(c->base);
    int32_t k, y;
    for (k = 0; k < c->maybe; k++) {
        int32_t n = s->maybe[k];
        f4 upper = f4_mix(f4_all(b->corner[0][n]), f4_all(b->corner[1][n]), fx);
        f4 lower = f4_mix(f4_all(b->corner[2][n]), f4_all(b->corner[3][n]), fx);
        f4 step = f4_sub(lower, upper);
        for (y = 0; y < ny; y++) {
            f4 value = f4_add(upper, f4_mul(step, f4_all(b->fy[y0 + y])));
            if (k == 0) {
                peak[y] = value;
                winner[y] = i4_all(n);
            } else {
                i4 more = f4_more(value, peak[y]);
                peak[y] = f4_pick(more, value, peak[y]);
                winner[y] = i4_pick(more, i4_all(n), winner[y]);
            }
        }
    }
    if (c->maybe == 1 && ny > 2 && !c->large) { /* one logit that changes evenly */
        f4 ratio = f4_exp(f4_sub(peak[1], peak[0]));
        likely[0] = f4_exp(f4_sub(peak[0], base));
        for (y = 1; y < ny; y++) likely[y] = f4_mul(likely[y - 1], ratio);
    } else {
        for (y = 0; y < ny; y++) likely[y] = f4_exp(f4_sub(peak[y], base));
    }
}

/* A piece of a block, SIDE x SIDE pixels at most. */
static void classify_piece(panokit_session *s, const block *b, const choice *c, int32_t y0, int32_t x0,
                           int32_t ny, int32_t nx) {
    f4 totals[SIDE * SIDE + 3], likely[SIDE], base = f4_all(c->base);
    i4 winner[SIDE];
    int32_t y, x, k, i;
    memset(totals, 0, sizeof *totals * (size_t)(ny * nx + 3));
    if (!c->slow && !c->large) add_channels(s, b, c, y0, x0, ny, nx, totals);
    for (x = 0; x < nx; x += 4) {
        int32_t left = nx - x < 4 ? nx - x : 4;
        find_winners(s, b, c, y0, x0 + x, ny, likely, winner);
        for (y = 0; y < ny; y++) {
            size_t at = (size_t)(y0 + y) * (size_t)s->grid_x.n + (size_t)(x0 + x);
            f4 sum = f4_sums(totals + y * nx + x), fy = f4_all(b->fy[y0 + y]);
            float probability[4];
            int32_t channel[4];
            for (k = 0; k < c->wide; k++) {
                f4 logit = resized4(b, s->wide[k], f4_load(b->fx + x0 + x), fy);
                sum = f4_add(sum, f4_exp(f4_sub(logit, base)));
            }
            sum = f4_div(likely[y], sum);
            if (left == 4 && !c->slow) {
                i4_store(s->class_map + at, winner[y]);
                f4_store(s->probability + at, sum);
                continue;
            }
            f4_store(probability, sum);
            i4_store(channel, winner[y]);
            for (i = 0; i < left; i++) {
                s->class_map[at + i] = channel[i];
                s->probability[at + i] =
                    c->slow ? slow_probability(s, b, channel[i], y0 + y, x0 + x + i) : probability[i];
            }
        }
    }
}

static void classify_block(panokit_session *s, const block *b) {
    choice c = choose(s, b);
    int32_t y, x;
    for (y = b->y0; y < b->y1; y += SIDE)
        for (x = b->x0; x < b->x1; x += SIDE)
            classify_piece(s, b, &c, y, x, b->y1 - y < SIDE ? b->y1 - y : SIDE,
                           b->x1 - x < SIDE ? b->x1 - x : SIDE);
}

/* ---- votes ---- */

/* The centres that may be nearest to a point of the box, in the order of their ranks. */
static int32_t ask(panokit_session *s, float y0, float y1, float x0, float x1) {
    int32_t k, n = s->center_count, asked = 0;
    float limit = FLT_MAX;
    if (n <= 3) {
        for (k = 0; k < n; k++) s->asked[k] = k;
        asked = n;
    } else {
        f4 top = f4_all(y0), bottom = f4_all(y1), left = f4_all(x0), right = f4_all(x1);
        f4 zero = f4_all(0), best = f4_all(FLT_MAX);
        for (k = 0; k < n; k += 4) {
            f4 y = f4_load(s->center_y + k), x = f4_load(s->center_x + k);
            f4 above = f4_sub(top, y), below = f4_sub(y, bottom);
            f4 before = f4_sub(left, x), behind = f4_sub(x, right);
            f4 dy = f4_max(f4_max(above, below), zero), dx = f4_max(f4_max(before, behind), zero);
            f4 far_y = f4_min(above, below), far_x = f4_min(before, behind);
            f4_store(s->bound + k, f4_add(f4_mul(dy, dy), f4_mul(dx, dx)));
            best = f4_min(best, f4_add(f4_mul(far_y, far_y), f4_mul(far_x, far_x)));
        }
        limit = f4_lowest(best) * NEAR_SLACK;
        if (!(limit < FLT_MAX)) limit = limit - limit == 0 ? limit : FLT_MAX * 2; /* infinity */
        for (k = 0; k < n; k++) {
            s->asked[asked] = k;
            asked += s->bound[k] <= limit;
        }
    }
    for (k = 0; k < asked; k++) {
        s->asked_y[k] = s->center_y[s->asked[k]];
        s->asked_x[k] = s->center_x[s->asked[k]];
    }
    return asked;
}

static i4 nearest4(const panokit_session *s, int32_t asked, f4 y, f4 x) {
    i4 rank = i4_all(s->asked[0]);
    f4 best = f4_all(0);
    int32_t k;
    for (k = 0; k < asked; k++) {
        f4 dy = f4_sub(y, f4_all(s->asked_y[k])), dx = f4_sub(x, f4_all(s->asked_x[k]));
        f4 distance = f4_add(f4_mul(dy, dy), f4_mul(dx, dx));
        if (k == 0) {
            best = distance;
        } else {
            i4 nearer = f4_more(best, distance);
            best = f4_pick(nearer, distance, best);
            rank = i4_pick(nearer, i4_all(s->asked[k]), rank);
        }
    }
    return rank;
}

enum { MOST_LANES = 64 };

/* Votes of a piece of a block, MOST_LANES groups of four pixels at most. */
static void vote_piece(panokit_session *s, const block *b, int32_t y0, int32_t y1, int32_t x0,
                       int32_t x1) {
    f4 py[MOST_LANES], px[MOST_LANES], low_y = f4_all(FLT_MAX), low_x = low_y;
    f4 high_y = f4_all(-FLT_MAX), high_x = high_y;
    int32_t y, x, i, n = 0, asked, width = s->grid_x.n;
    for (x = x0; x < x1; x += 4) {
        f4 fx = f4_load(b->fx + x), at_x = f4_load(s->grid_x.centers + x);
        f4 uy = f4_mix(f4_all(b->corner[0][0]), f4_all(b->corner[1][0]), fx);
        f4 ux = f4_mix(f4_all(b->corner[0][1]), f4_all(b->corner[1][1]), fx);
        f4 dy = f4_sub(f4_mix(f4_all(b->corner[2][0]), f4_all(b->corner[3][0]), fx), uy);
        f4 dx = f4_sub(f4_mix(f4_all(b->corner[2][1]), f4_all(b->corner[3][1]), fx), ux);
        for (y = y0; y < y1; y++, n++) {
            f4 fy = f4_all(b->fy[y]);
            py[n] = f4_add(f4_add(uy, f4_mul(dy, fy)), f4_all(s->grid_y.centers[y]));
            px[n] = f4_add(f4_add(ux, f4_mul(dx, fy)), at_x);
            low_y = f4_min(low_y, py[n]);
            high_y = f4_max(high_y, py[n]);
            low_x = f4_min(low_x, px[n]);
            high_x = f4_max(high_x, px[n]);
        }
    }
    asked = ask(s, f4_lowest(low_y), f4_highest(high_y), f4_lowest(low_x), f4_highest(high_x));
    for (x = x0, n = 0; x < x1; x += 4) {
        for (y = y0; y < y1; y++, n++) {
            int32_t rank[4], left = x1 - x < 4 ? x1 - x : 4;
            size_t place = (size_t)y * width + x;
            i4_store(rank, nearest4(s, asked, py[n], px[n]));
            for (i = 0; i < left; i++)
                if (s->thing_index[s->class_map[place + i]] >= 0) s->votes[place + i] = rank[i];
        }
    }
}

static void vote_block(panokit_session *s, const block *b) {
    int32_t y, x, width = s->grid_x.n, things = 0;
    for (y = b->y0; y < b->y1 && !things; y++)
        for (x = b->x0; x < b->x1; x++)
            things |= s->thing_index[s->class_map[(size_t)y * width + x]] >= 0;
    if (!things) return;
    for (y = b->y0; y < b->y1; y += 8) {
        for (x = b->x0; x < b->x1; x += 32) {
            int32_t bottom = y + 8 < b->y1 ? y + 8 : b->y1, right = x + 32 < b->x1 ? x + 32 : b->x1;
            vote_piece(s, b, y, bottom, x, right);
        }
    }
}

/* ---- walking the blocks ---- */

static int clip_group(const pk_group *g, const pk_axis *axis, int32_t *from, int32_t *to) {
    *from = g->from > axis->from ? g->from : axis->from;
    *to = g->to < axis->to ? g->to : axis->to;
    return *from < *to;
}

static void each_block(panokit_session *s, const float *values, int32_t channels,
                       void (*visit)(panokit_session *, const block *)) {
    size_t row = (size_t)s->w * (size_t)channels;
    block b;
    int32_t i, j;
    b.fy = s->rows.f;
    b.fx = s->cols.f;
    for (i = 0; i < s->rows.groups; i++) {
        const pk_group *gy = &s->rows.group[i];
        if (!clip_group(gy, &s->grid_y, &b.y0, &b.y1)) continue;
        for (j = 0; j < s->cols.groups; j++) {
            const pk_group *gx = &s->cols.group[j];
            size_t left = (size_t)gx->low * (size_t)channels, right = (size_t)gx->high * (size_t)channels;
            if (!clip_group(gx, &s->grid_x, &b.x0, &b.x1)) continue;
            b.step_y = gy->step;
            b.step_x = gx->step;
            b.corner[0] = values + (size_t)gy->low * row + left;
            b.corner[1] = values + (size_t)gy->low * row + right;
            b.corner[2] = values + (size_t)gy->high * row + left;
            b.corner[3] = values + (size_t)gy->high * row + right;
            visit(s, &b);
        }
    }
}

/* ---- classes and votes where the heads lie on the grid already ---- */

static void classify_cell(panokit_session *s, size_t at) {
    const float *logits = s->semantic + at * (size_t)s->padded;
    f4 top = f4_load(logits), total = f4_all(0);
    float peak, parts[4];
    int32_t c, best = 0;
    for (c = 4; c < s->padded; c += 4) top = f4_max(top, f4_load(logits + c));
    peak = f4_highest(top);
    while (!(logits[best] >= peak)) best++;
    for (c = 0; c + 4 <= s->channels; c += 4)
        total = f4_add(total, f4_exp(f4_sub(f4_load(logits + c), f4_all(peak))));
    f4_store(parts, total);
    if (c < s->channels) {
        float rest[4];
        f4_store(rest, f4_exp(f4_sub(f4_load(logits + c), f4_all(peak))));
        for (; c < s->channels; c++) parts[c % 4] += rest[c % 4];
    }
    s->class_map[at] = best;
    s->probability[at] = 1 / ((parts[0] + parts[1]) + (parts[2] + parts[3]));
}

static void decode_cells(panokit_session *s) {
    int32_t y, x;
    for (y = s->grid_y.from; y < s->grid_y.to; y++)
        for (x = s->grid_x.from; x < s->grid_x.to; x++)
            classify_cell(s, (size_t)y * (size_t)s->grid_x.n + (size_t)x);
}

static void vote_cells(panokit_session *s) {
    int32_t y, x, i, k;
    for (k = 0; k < s->center_count; k++) {
        s->asked[k] = k;
        s->asked_y[k] = s->center_y[k];
        s->asked_x[k] = s->center_x[k];
    }
    for (y = s->grid_y.from; y < s->grid_y.to; y++) {
        for (x = s->grid_x.from; x < s->grid_x.to; x += 4) {
            float py[4], px[4];
            int32_t rank[4], things = 0, left = s->grid_x.to - x < 4 ? s->grid_x.to - x : 4;
            size_t at = (size_t)y * (size_t)s->grid_x.n + (size_t)x;
            for (i = 0; i < 4; i++) {
                size_t j = at + (size_t)(i < left ? i : 0);
                py[i] = s->offset[2 * j] + s->grid_y.centers[y];
                px[i] = s->offset[2 * j + 1] + s->grid_x.centers[x + (i < left ? i : 0)];
                things |= s->thing_index[s->class_map[j]] >= 0;
            }
            if (!things) continue;
            i4_store(rank, nearest4(s, s->center_count, f4_load(py), f4_load(px)));
            for (i = 0; i < left; i++)
                if (s->thing_index[s->class_map[at + i]] >= 0) s->votes[at + i] = rank[i];
        }
    }
}

/* ---- centres ---- */

/* Highest score of each row's window, for all cells: two running maxima of pieces (van Herk). */
static void window_rows(panokit_session *s, int32_t radius) {
    int32_t y, x, w = s->w, length = 2 * radius + 1;
    float *ahead = s->line, *behind = s->line + w;
    if (radius >= w) length = w;
    for (y = 0; y < s->h; y++) {
        const float *in = s->scores + (size_t)y * (size_t)w;
        float *out = s->row_max + (size_t)y * (size_t)w;
        for (x = 0; x < w; x++)
            behind[x] = x % length && behind[x - 1] > in[x] ? behind[x - 1] : in[x];
        for (x = w - 1; x >= 0; x--)
            ahead[x] = (x + 1) % length && x + 1 < w && ahead[x + 1] > in[x] ? ahead[x + 1] : in[x];
        for (x = 0; x < w; x++) {
            int32_t from = x > radius ? x - radius : 0, to = x < w - 1 - radius ? x + radius : w - 1;
            float best = ahead[from] > behind[to] ? ahead[from] : behind[to];
            if (from / length == to / length) /* one piece: the window begins or ends with it */
                best = from % length == 0 ? behind[to] : ahead[from];
            out[x] = best;
        }
    }
}

static int is_peak(const panokit_session *s, int32_t y, int32_t x, int32_t radius) {
    int32_t w = s->w, from = x > radius ? x - radius : 0;
    int32_t first = y > radius ? y - radius : 0, last = y < s->h - 1 - radius ? y + radius : s->h - 1;
    const float *row = s->scores + (size_t)y * (size_t)w;
    float score = row[x];
    int32_t v;
    if (s->row_max[(size_t)y * (size_t)w + x] > score) return 0;
    for (v = from; v < x; v++)
        if (row[v] >= score) return 0;
    for (v = y - 1; v >= first; v--)
        if (s->row_max[(size_t)v * (size_t)w + x] >= score) return 0;
    for (v = y + 1; v <= last; v++)
        if (s->row_max[(size_t)v * (size_t)w + x] > score) return 0;
    return 1;
}

static int better(const pk_center *a, const pk_center *b) {
    return a->score > b->score || (a->score == b->score && a->cell < b->cell);
}

static void sift(pk_center *c, int32_t root, int32_t n) { /* the worst on top */
    pk_center kept = c[root];
    int32_t child;
    for (; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && better(&c[child], &c[child + 1])) child++;
        if (!better(&kept, &c[child])) break;
        c[root] = c[child];
    }
    c[root] = kept;
}

static void sort_centers(pk_center *c, int32_t n) { /* heap sort: no recursion, no memory */
    int32_t i;
    for (i = n / 2 - 1; i >= 0; i--) sift(c, i, n);
    for (i = n - 1; i > 0; i--) {
        pk_center last = c[i];
        c[i] = c[0];
        c[0] = last;
        sift(c, 0, i);
    }
}

static void find_centers(panokit_session *s) {
    size_t cells = (size_t)s->h * (size_t)s->w, i;
    int32_t radius = s->model->window / 2, n = 0, y, x;
    float threshold = s->model->threshold;
    int any = 0;
    for (i = 0; i < cells; i++) {
        float logit = s->center[i];
        /* What cannot reach the threshold suppresses nothing that does. */
        s->scores[i] = s->options.explain || logit >= s->cut ? pk_sigmoid(logit) : -1.0f;
        any |= s->scores[i] >= threshold;
    }
    s->center_count = 0;
    if (!any) return;
    window_rows(s, radius);
    for (y = s->cells_y.from; y < s->cells_y.to; y++) {
        for (x = s->cells_x.from; x < s->cells_x.to; x++) {
            size_t at = (size_t)y * (size_t)s->w + (size_t)x;
            if (!(s->scores[at] >= threshold) || !is_peak(s, y, x, radius)) continue;
            s->centers[n].score = s->scores[at];
            s->centers[n].cell = (int32_t)at;
            s->centers[n].y = s->cell_y[y];
            s->centers[n++].x = s->cell_x[x];
        }
    }
    sort_centers(s->centers, n);
    s->center_count = n < s->most_centers ? n : s->most_centers;
    for (i = 0; i < (size_t)s->center_count + 3; i++) { /* three more, to read over the end */
        const pk_center *c = &s->centers[i < (size_t)s->center_count ? i : 0];
        s->center_y[i] = c->y;
        s->center_x[i] = c->x;
    }
}

/* ---- instances ---- */

/* Pixels of a row that have the class and the vote of the first one. */
static int32_t run_end(const panokit_session *s, size_t line, int32_t x) {
    const int32_t *channel = s->class_map + line, *vote = s->votes + line;
    int32_t c = channel[x], k = vote[x];
    do x++;
    while (x < s->grid_x.to && channel[x] == c && vote[x] == k);
    return x;
}

/* Pixels and sums of their probabilities, by channel, and by centre and channel. */
static void count_votes(panokit_session *s) {
    size_t pairs = (size_t)s->center_count * (size_t)s->things;
    int32_t y, x, end;
    memset(s->counts, 0, sizeof *s->counts * pairs);
    memset(s->pair_sums, 0, sizeof *s->pair_sums * pairs);
    memset(s->channel_area, 0, sizeof *s->channel_area * (size_t)s->channels);
    memset(s->channel_sums, 0, sizeof *s->channel_sums * (size_t)s->channels);
    for (y = s->grid_y.from; y < s->grid_y.to; y++) {
        size_t line = (size_t)y * (size_t)s->grid_x.n;
        for (x = s->grid_x.from; x < s->grid_x.to; x = end) {
            int32_t c = s->class_map[line + x], k = s->votes[line + x], i;
            const float *p = s->probability + line;
            double sum = 0;
            end = run_end(s, line, x);
            for (i = x; i < end; i++) sum += p[i];
            if (k >= 0) {
                size_t pair = (size_t)k * (size_t)s->things + (size_t)s->thing_index[c];
                s->counts[pair] += end - x;
                s->pair_sums[pair] += sum;
            } else {
                s->channel_area[c] += end - x;
                s->channel_sums[c] += sum;
            }
        }
    }
}

/* The class of each centre's voters; returns whether any voter has another. */
static int choose_classes(panokit_session *s) {
    int32_t k, j;
    int mixed = 0;
    for (k = 0; k < s->center_count; k++) {
        const int32_t *counts = s->counts + (size_t)k * (size_t)s->things;
        int32_t most = -1, area = 0;
        s->top[k] = s->model->by_id[0];
        s->sums[k] = 0;
        for (j = 0; j < s->channels; j++) { /* by category id: a tie goes to the lowest */
            int32_t c = s->model->by_id[j], t = s->thing_index[c], n = t < 0 ? 0 : counts[t];
            if (n > most) {
                most = n;
                s->top[k] = c;
                s->sums[k] = t < 0 ? 0 : s->pair_sums[(size_t)k * (size_t)s->things + (size_t)t];
            }
            area += n;
        }
        s->areas[k] = area;
        mixed |= area > most;
    }
    return mixed;
}

/* Logit of a channel at a pixel of the grid. */
static float logit_at(const panokit_session *s, int32_t channel, const pk_group *gy,
                      const pk_group *gx, int32_t y, int32_t x) {
    size_t n = (size_t)s->padded, row = (size_t)s->w * n;
    const float *upper = s->semantic + (size_t)gy->low * row + (size_t)channel;
    const float *lower = s->semantic + (size_t)gy->high * row + (size_t)channel;
    size_t left = (size_t)gx->low * n, right = (size_t)gx->high * n;
    float a = mix(upper[left], upper[right], s->cols.f[x]);
    float b = mix(lower[left], lower[right], s->cols.f[x]);
    return mix(a, b, s->rows.f[y]);
}

/* Voters of another class than their instance's: how likely the instance's is there. */
static void add_other_voters(panokit_session *s) {
    const pk_group *gy = s->rows.group, *gx;
    int32_t y, x, end;
    for (y = s->grid_y.from; y < s->grid_y.to; y++) {
        size_t line = (size_t)y * (size_t)s->grid_x.n;
        while (y >= gy->to) gy++;
        gx = s->cols.group;
        for (x = s->grid_x.from; x < s->grid_x.to; x = end) {
            int32_t c = s->class_map[line + x], k = s->votes[line + x];
            end = run_end(s, line, x);
            while (k >= 0 && c != s->top[k] && x < end) {
                float lead[4] = {0, 0, 0, 0}, share[4];
                int32_t n = end - x < 4 ? end - x : 4, i;
                for (i = 0; i < n; i++) {
                    while (x + i >= gx->to) gx++;
                    lead[i] = logit_at(s, s->top[k], gy, gx, y, x + i) - logit_at(s, c, gy, gx, y, x + i);
                }
                f4_store(share, f4_exp(f4_load(lead)));
                for (i = 0; i < n; i++, x++)
                    s->sums[k] += (double)s->probability[line + x] * (double)share[i];
            }
        }
    }
}

static panokit_segment *add_segment(panokit_session *s, int32_t channel, double score, int32_t area) {
    panokit_segment *segment = &s->segments[s->segment_count++];
    memset(segment, 0, sizeof *segment);
    segment->id = s->segment_count;
    segment->channel = channel;
    segment->score = score;
    segment->area = area;
    return segment;
}

static void make_segments(panokit_session *s) {
    const panokit_model *m = s->model;
    int32_t k, j;
    s->segment_count = 0;
    for (k = 0; k < s->center_count; k++) {
        double score;
        panokit_segment *segment;
        s->id_of_rank[k] = 0;
        if (s->areas[k] == 0 || s->areas[k] < m->min_thing_area) continue;
        score = (double)s->centers[k].score * s->sums[k] / s->areas[k];
        if (score < m->min_thing_score) continue;
        segment = add_segment(s, s->top[k], score, s->areas[k]);
        segment->is_thing = 1;
        segment->center_y = s->centers[k].y;
        segment->center_x = s->centers[k].x;
        s->id_of_rank[k] = segment->id;
    }
    for (j = 0; j < s->channels; j++) {
        int32_t c = m->by_id[j];
        int64_t area = s->channel_area[c];
        s->id_of_channel[c] = 0;
        if (s->thing_index[c] >= 0 || area == 0 || area < m->min_stuff_area) continue;
        s->id_of_channel[c] = add_segment(s, c, s->channel_sums[c] / (double)area, (int32_t)area)->id;
    }
}

static void make_ids(panokit_session *s) {
    int32_t y, x;
    memset(s->ids, 0, sizeof *s->ids * (size_t)s->grid_y.n * (size_t)s->grid_x.n);
    for (y = s->grid_y.from; y < s->grid_y.to; y++) {
        size_t line = (size_t)y * (size_t)s->grid_x.n;
        for (x = s->grid_x.from; x < s->grid_x.to; x++) {
            int32_t k = s->votes[line + x];
            s->ids[line + x] = k >= 0 ? s->id_of_rank[k] : s->id_of_channel[s->class_map[line + x]];
        }
    }
}

/* ---- all stages ---- */

static void resize_whole(const panokit_session *s, const float *values, int32_t padded, int32_t n,
                         float *out) {
    const pk_group *gy = s->rows.group, *gx;
    size_t row = (size_t)s->w * (size_t)padded;
    int32_t y, x, c;
    for (y = 0; y < s->grid_y.n; y++) {
        while (y >= gy->to) gy++;
        gx = s->cols.group;
        for (x = 0; x < s->grid_x.n; x++) {
            const float *upper = values + (size_t)gy->low * row, *lower = values + (size_t)gy->high * row;
            size_t left, right;
            while (x >= gx->to) gx++;
            left = (size_t)gx->low * (size_t)padded;
            right = (size_t)gx->high * (size_t)padded;
            for (c = 0; c < n; c++)
                *out++ = mix(mix(upper[left + c], upper[right + c], s->cols.f[x]),
                             mix(lower[left + c], lower[right + c], s->cols.f[x]), s->rows.f[y]);
        }
    }
}

static void keep_explanation(panokit_session *s) {
    size_t cells = (size_t)s->h * (size_t)s->w, i;
    int32_t k;
    for (i = 0; i < cells; i++)
        memcpy(s->real_semantic + i * (size_t)s->channels, s->semantic + i * (size_t)s->padded,
               sizeof(float) * (size_t)s->channels);
    resize_whole(s, s->semantic, s->padded, s->channels, s->full_semantic);
    resize_whole(s, s->offset, 2, 2, s->full_offset);
    for (k = 0; k < s->center_count; k++) {
        s->center_cells[2 * k] = s->centers[k].cell / s->w;
        s->center_cells[2 * k + 1] = s->centers[k].cell % s->w;
        s->center_scores[k] = s->centers[k].score;
    }
}

panokit_status panokit_decode(panokit_session *s, const panokit_tensor heads[3],
                              panokit_error *error) {
    panokit_status status;
    int same;
    pk_clear(error);
    if (!s || !heads) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' or 'heads' is NULL");
    if (!s->has_photo)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT,
                       "the photo's size is not known: call panokit_preprocess or panokit_set_photo");
    s->has_result = 0;
    status = pk_read_heads(s, heads, error);
    if (status) return status;
    same = s->grid_y.n == s->h && s->grid_x.n == s->w;
    memset(s->class_map, 0xff, sizeof *s->class_map * (size_t)s->grid_y.n * (size_t)s->grid_x.n);
    memset(s->votes, 0xff, sizeof *s->votes * (size_t)s->grid_y.n * (size_t)s->grid_x.n);
    if (same) {
        decode_cells(s);
    } else {
        each_block(s, s->semantic, s->padded, classify_block);
    }
    find_centers(s);
    if (s->center_count && same) vote_cells(s);
    if (s->center_count && !same) each_block(s, s->offset, 2, vote_block);
    count_votes(s);
    if (choose_classes(s)) add_other_voters(s);
    make_segments(s);
    make_ids(s);
    pk_measure_on_photo(s);
    if (s->options.explain) keep_explanation(s);
    s->has_result = 1;
    return PANOKIT_OK;
}

panokit_status panokit_explain(const panokit_session *s, panokit_explanation *out) {
    if (!s || !out || !s->has_result) return PANOKIT_BAD_ARGUMENT;
    memset(out, 0, sizeof *out);
    if (!s->options.explain) return PANOKIT_OK;
    out->real[0] = s->real_semantic;
    out->real[1] = s->center;
    out->real[2] = s->offset;
    out->semantic = s->full_semantic;
    out->offset = s->full_offset;
    out->class_map = s->class_map;
    out->scores = s->scores;
    out->centers = s->center_cells;
    out->center_scores = s->center_scores;
    out->votes = s->votes;
    out->center_count = s->center_count;
    return PANOKIT_OK;
}
