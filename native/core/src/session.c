/* All memory of a session, counted first and then handed out of one block. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct arena {
    char *at;
    uint64_t used;
} arena;

static void *take(arena *a, uint64_t count, uint64_t size) {
    void *place = a->at ? a->at + a->used : NULL;
    if (count > PK_MAX_BYTES || count * size > PK_MAX_BYTES) {
        a->used = PK_MAX_BYTES + 1; /* more than any session may have */
        return NULL;
    }
    if (a->used <= PK_MAX_BYTES) a->used += (count * size + 31) & ~(uint64_t)31;
    return place;
}

#define TAKE(field, count) ((field) = take(a, (uint64_t)(count), sizeof *(field)))

static void lay_out_axis(arena *a, pk_taps *taps, int32_t n) {
    TAKE(taps->group, n);
    TAKE(taps->f, n + 3);
    TAKE(taps->centers, n + 3);
}

static void lay_out_input(panokit_session *s, arena *a) {
    const panokit_info *info = &s->model->info;
    int64_t side = s->max_side, w = info->input_width, h = info->input_height, most = w > h ? w : h;
    /* Weights of an axis: 2·ceil(n_in / n_out) + 1 for each output. */
    s->weight_room = (size_t)(2 * side + 3 * most);
    /* Rows that the vertical kernel reaches times their width; a photo shrinks by about the same
     * in both directions, so that this is about two rows of the photo. */
    s->ring_bytes = (size_t)(3 * (4 * side + 7 * w));
    TAKE(s->row, 3 * side);
    TAKE(s->ring, s->ring_bytes);
    TAKE(s->weights_x, s->weight_room);
    TAKE(s->weights_y, s->weight_room);
    TAKE(s->start_x, w);
    TAKE(s->count_x, w);
    TAKE(s->start_y, h);
    TAKE(s->count_y, h);
    TAKE(s->input, 3 * w * h);
    TAKE(s->mult_y, info->grid_height);
    TAKE(s->first_y, info->grid_height);
    TAKE(s->mult_x, info->grid_width);
    TAKE(s->first_x, info->grid_width);
}

static void lay_out_decoding(panokit_session *s, arena *a) {
    const panokit_info *info = &s->model->info;
    int64_t cells = (int64_t)s->h * s->w, grid = (int64_t)info->grid_width * info->grid_height;
    int64_t k, n = s->channels;
    s->padded = (s->channels + 3) / 4 * 4;
    s->most_centers = (int32_t)(cells < s->model->top_k ? cells : s->model->top_k);
    k = s->most_centers;
    TAKE(s->semantic, cells * s->padded);
    TAKE(s->center, cells);
    TAKE(s->offset, 2 * cells);
    TAKE(s->scores, cells);
    TAKE(s->row_max, cells);
    TAKE(s->line, 3 * (s->w > s->h ? s->w : s->h));
    TAKE(s->table, 256);
    lay_out_axis(a, &s->rows, info->grid_height);
    lay_out_axis(a, &s->cols, info->grid_width);
    TAKE(s->cell_y, s->h);
    TAKE(s->cell_x, s->w);
    TAKE(s->class_map, grid);
    TAKE(s->votes, grid);
    TAKE(s->ids, grid);
    TAKE(s->probability, grid);
    TAKE(s->high, s->padded);
    TAKE(s->low, s->padded);
    TAKE(s->maybe, n);
    TAKE(s->wide, n);
    TAKE(s->centers, cells);
    TAKE(s->center_y, k + 3);
    TAKE(s->center_x, k + 3);
    TAKE(s->asked, k);
    TAKE(s->asked_y, k);
    TAKE(s->asked_x, k);
    TAKE(s->bound, k + 3);
    TAKE(s->counts, k * s->things);
    TAKE(s->pair_sums, k * s->things);
    TAKE(s->thing_index, n);
    TAKE(s->thing_channel, s->things + 1);
    TAKE(s->top, k);
    TAKE(s->areas, k);
    TAKE(s->id_of_rank, k);
    TAKE(s->sums, k);
    TAKE(s->id_of_channel, n);
    TAKE(s->channel_area, n);
    TAKE(s->channel_sums, n);
    TAKE(s->segments, k + n);
    TAKE(s->border, k + n + 1);
    TAKE(s->touching, k + n + 1);
    if (s->options.explain) {
        TAKE(s->real_semantic, cells * n);
        TAKE(s->full_semantic, grid * n);
        TAKE(s->full_offset, grid * 2);
        TAKE(s->center_cells, 2 * k);
        TAKE(s->center_scores, k);
    }
}

static void lay_out_matte(panokit_session *s, arena *a) {
    pk_matte_memory *m = &s->matte;
    uint64_t cells = pk_matte_cells();
    if (!s->options.matte) return;
    m->cells = (size_t)cells;
    TAKE(m->guide, 3 * cells);
    TAKE(m->mask, cells);
    TAKE(m->first, cells);
    TAKE(m->wide, 4 * cells / 4 + 4096);
    TAKE(m->coefficients, 4 * cells);
    TAKE(m->columns, 14 * 600);
    TAKE(m->sums, 4 * cells);
    TAKE(m->flag, cells);
    TAKE(m->flag2, cells);
    TAKE(m->counts, 4 * 600);
    m->fields = (float *)(void *)m->sums; /* the lines are done with when the fields are made */
    m->found = m->first;
}

static void lay_out(panokit_session *s, arena *a) {
    lay_out_input(s, a);
    lay_out_decoding(s, a);
    lay_out_matte(s, a);
}

/* Half-pixel taps of an axis, grouped by the two inputs between which the outputs lie. */
static void fill_taps(pk_taps *taps, int32_t n_in, int32_t n_out) {
    int32_t i;
    taps->groups = 0;
    for (i = 0; i < n_out; i++) {
        double at = (i + 0.5) * ((double)n_in / n_out) - 0.5;
        int beyond = at < 0 || at > n_in - 1; /* all such have a weight of 0 */
        float step = beyond ? 0.0f : (float)((double)n_in / n_out);
        int32_t low;
        at = at < 0 ? 0 : at > n_in - 1 ? n_in - 1 : at;
        low = (int32_t)at;
        taps->f[i] = (float)(at - low);
        if (!taps->groups || taps->group[taps->groups - 1].low != low ||
            taps->group[taps->groups - 1].step != step) {
            pk_group *g = &taps->group[taps->groups++];
            g->low = low;
            g->high = low + 1 < n_in ? low + 1 : n_in - 1;
            g->from = i;
            g->step = step;
        }
        taps->group[taps->groups - 1].to = i + 1;
    }
    for (i = 0; i < 3; i++) taps->f[n_out + i] = 0;
}

static void fill_centers(float *centers, int32_t n, int32_t size) {
    float step = (float)((double)size / n);
    int32_t i;
    for (i = 0; i < n; i++) centers[i] = ((float)i + 0.5f) * step;
}

/* The least logit whose score reaches the threshold, less a little. */
static float find_cut(float threshold) {
    float low = -1000, high = 1000;
    int i;
    if (!(threshold > 0)) return -FLT_MAX; /* everything does */
    for (i = 0; i < 60; i++) {
        float middle = low + (high - low) / 2;
        if (pk_sigmoid(middle) >= threshold) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return low - 0.01f - (low < 0 ? -low : low) * 1e-3f;
}

static void prepare(panokit_session *s) {
    const panokit_info *info = &s->model->info;
    int32_t c, i;
    fill_taps(&s->rows, s->h, info->grid_height);
    fill_taps(&s->cols, s->w, info->grid_width);
    fill_centers(s->rows.centers, info->grid_height, info->input_height);
    fill_centers(s->cols.centers, info->grid_width, info->input_width);
    for (i = 0; i < 3; i++) {
        s->rows.centers[info->grid_height + i] = 0;
        s->cols.centers[info->grid_width + i] = 0;
    }
    fill_centers(s->cell_y, s->h, info->input_height);
    fill_centers(s->cell_x, s->w, info->input_width);
    s->grid_y.centers = s->rows.centers;
    s->grid_x.centers = s->cols.centers;
    s->cells_y.centers = s->cell_y;
    s->cells_x.centers = s->cell_x;
    for (c = 0, i = 0; c < s->channels; c++) {
        s->thing_index[c] = s->model->categories[c].is_thing ? i : -1;
        if (s->model->categories[c].is_thing) s->thing_channel[i++] = c;
    }
    s->cut = find_cut(s->model->threshold);
    s->negligible = 17; /* e^-17 = 4e-8, shared by all channels */
    for (c = 1; c < s->channels; c *= 2) s->negligible += 0.7f;
}

panokit_status panokit_session_open(const panokit_model *model, const panokit_options *options,
                                    panokit_session **session, panokit_error *error) {
    panokit_session *s;
    arena counted = {NULL, 0}, given;
    uint64_t own = (sizeof *s + 31) & ~(uint64_t)31;
    int32_t i;
    pk_clear(error);
    if (!session) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' is NULL");
    *session = NULL;
    if (!model) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'model' is NULL");
    s = calloc(1, sizeof *s);
    if (!s) return pk_fail(error, PANOKIT_NO_MEMORY, "not enough memory for a session");
    s->model = model;
    if (options) s->options = *options;
    s->max_side = s->options.max_photo_side ? s->options.max_photo_side : 16384;
    s->h = model->info.heads[0].height;
    s->w = model->info.heads[0].width;
    s->channels = model->info.category_count;
    for (i = 0; i < s->channels; i++) s->things += model->categories[i].is_thing;
    if (s->max_side < 1 || s->max_side > 1 << 20) {
        free(s);
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'max_photo_side' must be from 1 to 2^20");
    }
    lay_out(s, &counted);
    if (counted.used > PK_MAX_BYTES) {
        free(s);
        return pk_fail(error, PANOKIT_TOO_LARGE, "the manifest's sizes take more than 1 GiB");
    }
    given.used = 0;
    given.at = calloc(1, (size_t)(counted.used + own + 31));
    if (!given.at) {
        free(s);
        return pk_fail(error, PANOKIT_NO_MEMORY, "not enough memory: a session takes %lu bytes",
                       (unsigned long)(counted.used + own));
    }
    {   /* the session itself moves to the front of the block, so that one free() is enough */
        panokit_session *moved = (panokit_session *)(void *)given.at;
        *moved = *s;
        free(s);
        s = moved;
    }
    given.at += own;
    lay_out(s, &given);
    s->bytes = (size_t)(counted.used + own + 31);
    prepare(s);
    *session = s;
    return PANOKIT_OK;
}

size_t panokit_session_bytes(const panokit_session *session) {
    return session ? session->bytes : 0;
}

void panokit_session_close(panokit_session *session) {
    free(session);
}

/* Cells of an axis whose centres lie on the photo; its first edge counts. */
static void find_axis(pk_axis *axis, int32_t n, int64_t size, int64_t start, int64_t length) {
    int64_t low = 2 * n * start, high = 2 * n * (start + length);
    int32_t i;
    axis->n = n;
    axis->from = axis->to = 0;
    for (i = 0; i < n; i++) {
        int64_t twice = (2 * (int64_t)i + 1) * size;
        if (twice < low || twice >= high) continue;
        if (axis->to == 0) axis->from = i;
        axis->to = i + 1;
    }
}

panokit_status panokit_set_photo(panokit_session *s, int32_t width, int32_t height,
                                 panokit_error *error) {
    const panokit_info *info;
    panokit_transform t;
    pk_clear(error);
    if (!s) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'session' is NULL");
    info = &s->model->info;
    if (width < 1 || height < 1)
        return pk_fail(error, PANOKIT_BAD_IMAGE, "the photo is %ld x %ld pixels", (long)width,
                       (long)height);
    if (width > s->max_side || height > s->max_side)
        return pk_fail(error, PANOKIT_TOO_LARGE,
                       "the photo is %ld x %ld pixels; this session takes sides of at most %ld: open "
                       "it with a larger 'max_photo_side'",
                       (long)width, (long)height, (long)s->max_side);
    if (panokit_letterbox(width, height, info->input_width, info->input_height, &t))
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the sizes cannot be letterboxed");
    s->transform = t;
    s->has_photo = 1;
    s->has_input = s->has_result = 0;
    find_axis(&s->grid_y, info->grid_height, info->input_height, t.top, t.content_height);
    find_axis(&s->grid_x, info->grid_width, info->input_width, t.left, t.content_width);
    find_axis(&s->cells_y, s->h, info->input_height, t.top, t.content_height);
    find_axis(&s->cells_x, s->w, info->input_width, t.left, t.content_width);
    return PANOKIT_OK;
}

const panokit_transform *panokit_session_transform(const panokit_session *s) {
    return s && s->has_photo ? &s->transform : NULL;
}
