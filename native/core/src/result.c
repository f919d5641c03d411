/* The result on the photo: nearest neighbour of the grid, so that areas, boxes and run lengths come
 * from the small map and the number of photo rows and columns that each of its lines stands for. */
#include <string.h>

#include "internal.h"

static int32_t to_grid(int64_t at, int64_t photo, int64_t content, int64_t start, int64_t input,
                       int64_t grid) {
    int64_t on_input = start + (2 * at + 1) * content / (2 * photo);
    return (int32_t)(grid == input ? on_input : (2 * on_input + 1) * grid / (2 * input));
}

int32_t pk_grid_row(const panokit_session *s, int64_t row) {
    const panokit_transform *t = &s->transform;
    return to_grid(row, t->photo_height, t->content_height, t->top, t->input_height, s->grid_y.n);
}

int32_t pk_grid_column(const panokit_session *s, int64_t column) {
    const panokit_transform *t = &s->transform;
    return to_grid(column, t->photo_width, t->content_width, t->left, t->input_width, s->grid_x.n);
}

/* How many photo lines each grid line stands for, and the first of them. */
static void count_lines(const panokit_session *s, int rows, int32_t *many, int32_t *first) {
    int32_t n = rows ? s->transform.photo_height : s->transform.photo_width, i;
    memset(many, 0, sizeof *many * (size_t)(rows ? s->grid_y.n : s->grid_x.n));
    for (i = 0; i < n; i++) {
        int32_t at = rows ? pk_grid_row(s, i) : pk_grid_column(s, i);
        if (many[at]++ == 0) first[at] = i;
    }
}

void pk_measure_on_photo(panokit_session *s) {
    int32_t y, x, i;
    count_lines(s, 1, s->mult_y, s->first_y);
    count_lines(s, 0, s->mult_x, s->first_x);
    for (i = 0; i < s->segment_count; i++) s->segments[i].photo_area = 0;
    for (y = 0; y < s->grid_y.n; y++) {
        const int32_t *row = s->ids + (size_t)y * (size_t)s->grid_x.n;
        if (!s->mult_y[y]) continue;
        for (x = 0; x < s->grid_x.n; x++) {
            int32_t left = s->first_x[x], right, id = row[x];
            panokit_segment *segment;
            int64_t wide = 0;
            if (!id || !s->mult_x[x]) continue;
            for (right = left; x < s->grid_x.n && (row[x] == id || !s->mult_x[x]); x++) { /* a run */
                wide += s->mult_x[x];
                if (s->mult_x[x]) right = s->first_x[x] + s->mult_x[x];
            }
            x--;
            segment = &s->segments[id - 1];
            if (segment->photo_area == 0) {
                segment->box[0] = left;
                segment->box[1] = s->first_y[y];
                segment->box[2] = right;
            }
            segment->photo_area += wide * s->mult_y[y];
            if (left < segment->box[0]) segment->box[0] = left;
            if (right > segment->box[2]) segment->box[2] = right;
            segment->box[3] = s->first_y[y] + s->mult_y[y];
        }
    }
}

const panokit_segment *panokit_segments(const panokit_session *s, int32_t *count) {
    int32_t n = s && s->has_result ? s->segment_count : 0;
    if (count) *count = n;
    return n ? s->segments : NULL;
}

const int32_t *panokit_ids(const panokit_session *s) {
    return s && s->has_result ? s->ids : NULL;
}

int32_t panokit_count(const panokit_session *s, int32_t channel) {
    int32_t i, found = 0;
    if (!s || !s->has_result || channel < 0 || channel >= s->channels) return -1;
    for (i = 0; i < s->segment_count; i++)
        found += s->segments[i].channel == channel && s->segments[i].is_thing &&
                 s->segments[i].photo_area > 0;
    return found;
}

static panokit_status needs_result(const panokit_session *s, panokit_error *error) {
    pk_clear(error);
    if (s && s->has_result) return PANOKIT_OK;
    return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no result yet: call panokit_decode");
}

panokit_status panokit_photo_ids(const panokit_session *s, void *ids, int32_t id_bytes,
                                 size_t row_stride, panokit_error *error) {
    panokit_status status = needs_result(s, error);
    int32_t w, h, y, x, i, at, before = -1;
    char *out = ids;
    if (status) return status;
    w = s->transform.photo_width;
    h = s->transform.photo_height;
    if (!ids || (id_bytes != 1 && id_bytes != 2 && id_bytes != 4))
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'ids' is NULL, or 'id_bytes' is not 1, 2 or 4");
    if (row_stride < (size_t)w * (size_t)id_bytes || row_stride % (size_t)id_bytes)
        return pk_fail(error, PANOKIT_NO_ROOM, "the row stride must be a multiple of %ld, at least %ld",
                       (long)id_bytes, (long)w * id_bytes);
    if (id_bytes < 4 && s->segment_count >= 1 << 8 * id_bytes)
        return pk_fail(error, PANOKIT_TOO_LARGE, "%ld segments do not fit into ids of %ld byte(s)",
                       (long)s->segment_count, (long)id_bytes);
    for (y = 0; y < h; y++, before = at, out += row_stride) {
        const int32_t *row;
        at = pk_grid_row(s, y);
        row = s->ids + (size_t)at * (size_t)s->grid_x.n;
        if (at == before) {
            memcpy(out, out - row_stride, (size_t)w * (size_t)id_bytes);
            continue;
        }
        for (x = 0; x < s->grid_x.n; x++) {
            int32_t first = s->first_x[x], last = first + s->mult_x[x];
            if (!s->mult_x[x]) continue;
            if (id_bytes == 1) {
                memset(out + first, row[x], (size_t)(last - first));
            } else if (id_bytes == 2) {
                for (i = first; i < last; i++) ((uint16_t *)(void *)out)[i] = (uint16_t)row[x];
            } else {
                for (i = first; i < last; i++) ((int32_t *)(void *)out)[i] = row[x];
            }
        }
    }
    return PANOKIT_OK;
}

int32_t panokit_id_at(const panokit_session *s, int32_t x, int32_t y) {
    if (!s || !s->has_result || x < 0 || y < 0 || x >= s->transform.photo_width ||
        y >= s->transform.photo_height)
        return -1;
    return s->ids[(size_t)pk_grid_row(s, y) * (size_t)s->grid_x.n + (size_t)pk_grid_column(s, x)];
}

/* ---- COCO's run lengths: column by column, zeros first ---- */

typedef struct runs {
    char *text;
    size_t room, used;
    int64_t last[2]; /* the two runs before */
    int64_t count;
} runs;

static void put_run(runs *r, int64_t length) {
    /* From the fourth run on, the difference to the run two before; five bits a character. */
    int64_t value = r->count > 2 ? length - r->last[0] : length;
    int more = 1;
    while (more) {
        int low = (int)(value & 31);
        value = value < 0 ? -((-value + 31) / 32) : value / 32; /* rounds down */
        more = (low & 16) ? value != -1 : value != 0;
        if (r->used < r->room) r->text[r->used] = (char)((more ? low | 32 : low) + 48);
        r->used++;
    }
    r->last[0] = r->last[1];
    r->last[1] = length;
    r->count++;
}

panokit_status panokit_rle(const panokit_session *s, int32_t id, char *text, size_t bytes,
                           size_t *needed, panokit_error *error) {
    panokit_status status = needs_result(s, error);
    runs r = {NULL, 0, 0, {0, 0}, 0};
    int64_t length = 0;
    int32_t x, y;
    int inside = 0;
    if (status) return status;
    if (id < 1 || id > s->segment_count)
        return pk_fail(error, PANOKIT_BAD_ARGUMENT, "there is no segment %ld; the last id is %ld",
                       (long)id, (long)s->segment_count);
    r.text = text;
    r.room = text ? bytes : 0;
    for (x = 0; x < s->transform.photo_width; x++) {
        const int32_t *column = s->ids + pk_grid_column(s, x);
        for (y = 0; y < s->grid_y.n; y++, column += s->grid_x.n) {
            if (!s->mult_y[y]) continue;
            if ((*column == id) != inside) {
                put_run(&r, length);
                length = 0;
                inside = !inside;
            }
            length += s->mult_y[y];
        }
    }
    put_run(&r, length);
    if (needed) *needed = r.used + 1;
    if (!text) return PANOKIT_OK;
    if (r.used >= bytes)
        return pk_fail(error, PANOKIT_NO_ROOM, "the run lengths take %lu bytes, there are %lu",
                       (unsigned long)(r.used + 1), (unsigned long)bytes);
    text[r.used] = 0;
    return PANOKIT_OK;
}

/* ---- persons and what belongs to them ---- */

static int is_person(const panokit_session *s, const panokit_segment *segment) {
    return segment->is_thing && segment->photo_area > 0 &&
           strcmp(s->model->categories[segment->channel].name, "person") == 0;
}

static void add_border(panokit_session *s, int32_t a, int32_t b, int64_t weight) {
    if (a == b) return;
    s->border[a] += weight;
    s->border[b] += weight;
    if (b && is_person(s, &s->segments[b - 1])) s->touching[a] += weight;
    if (a && is_person(s, &s->segments[a - 1])) s->touching[b] += weight;
}

/* Photo pixels along the borders of each segment, and those that lie against a person. */
static void measure_borders(panokit_session *s) {
    int32_t y, x, above = -1, before, w = s->grid_x.n;
    size_t n = (size_t)s->segment_count + 1;
    memset(s->border, 0, n * sizeof *s->border);
    memset(s->touching, 0, n * sizeof *s->touching);
    for (y = 0; y < s->grid_y.n; y++) {
        const int32_t *row = s->ids + (size_t)y * (size_t)w;
        if (!s->mult_y[y]) continue;
        for (x = 0, before = -1; x < w; x++) {
            if (!s->mult_x[x]) continue;
            if (before >= 0) add_border(s, row[before], row[x], s->mult_y[y]);
            if (above >= 0)
                add_border(s, s->ids[(size_t)above * (size_t)w + (size_t)x], row[x], s->mult_x[x]);
            before = x;
        }
        above = y;
    }
}

panokit_status panokit_portrait(const panokit_session *session, int32_t *ids, int32_t room,
                                int32_t *needed, panokit_error *error) {
    panokit_status status = needs_result(session, error);
    panokit_session *s = (panokit_session *)session; /* its scratch memory alone changes */
    int64_t limit = 0;
    int32_t i, n = 0;
    if (status) return status;
    measure_borders(s);
    for (i = 0; i < s->segment_count; i++)
        if (is_person(s, &s->segments[i])) limit += s->segments[i].photo_area;
    for (i = 0; i < s->segment_count; i++) {
        const panokit_segment *segment = &s->segments[i];
        int64_t border = s->border[segment->id], touching = s->touching[segment->id];
        int held = limit > 0 && segment->is_thing && segment->photo_area > 0 &&
                   segment->photo_area < limit && border > 0 && 2 * touching >= border;
        if (!held && !is_person(s, segment)) continue;
        if (ids && n < room) ids[n] = segment->id;
        n++;
    }
    if (needed) *needed = n;
    if (ids && n > room)
        return pk_fail(error, PANOKIT_NO_ROOM, "%ld ids do not fit into %ld places", (long)n, (long)room);
    return PANOKIT_OK;
}
