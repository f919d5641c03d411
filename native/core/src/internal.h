/* What the files of the core share. Nothing here is for apps. */
#ifndef PANOKIT_INTERNAL_H
#define PANOKIT_INTERNAL_H

#include <float.h>

#include "panokit.h"

#if defined(__FAST_MATH__) || (defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0)
#error "Panokit's core needs plain float arithmetic: no -ffast-math, and SSE2 on 32-bit x86"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF /* gcc needs the option -ffp-contract=off */
#endif

#define PK_MAX_SIDE 8192         /* of the input, as in the SDK */
#define PK_MAX_CATEGORIES 4096
#define PK_MAX_MANIFEST 4000000
#define PK_MAX_BYTES ((uint64_t)1 << 30)
#define PK_MAX_MAGNITUDE 1e38f   /* the difference of any two is still a float */

/* ---- errors (error.c) ---- */

#if defined(__GNUC__)
#define PK_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define PK_PRINTF(a, b)
#endif
void pk_clear(panokit_error *error);
panokit_status pk_fail(panokit_error *error, panokit_status status, const char *format, ...)
    PK_PRINTF(3, 4);
panokit_status pk_fail_head(panokit_error *error, panokit_head head, const int32_t *position,
                            const char *format, ...) PK_PRINTF(4, 5);
extern const char *const pk_head_names[3];

/* ---- numbers (numbers.c) ---- */

double pk_exp(double x);           /* the same bits on every machine */
float pk_sigmoid(float x);         /* in double, rounded once */
float pk_half(uint16_t bits);      /* float16 to float */
uint16_t pk_to_half(float value);
double pk_decimal(const char *digits, size_t count, int exponent10); /* digits·10^exponent, rounded once */
int pk_is_unfused(void);           /* whether a·b + c rounds twice in this build */

/* ---- JSON (json.c): a document is checked whole, then walked without a copy ---- */

typedef struct pk_json {
    const char *at, *end; /* one value, without the space around it; at == NULL: nothing */
} pk_json;

int pk_is_utf8(const char *text);
/* Checks a document; on failure `where` is the byte. */
int pk_json_open(const char *text, size_t bytes, pk_json *value, size_t *where);
char pk_json_kind(pk_json value);  /* { [ " 0 t f n, or 0 for nothing */
pk_json pk_json_get(pk_json object, const char *name); /* the last of that name, as Python has it */
pk_json pk_json_first(pk_json array_or_object, pk_json *name);
pk_json pk_json_next(pk_json container, pk_json item, pk_json *name);
int pk_json_number(pk_json value, double *number);
int pk_json_whole(pk_json value, int64_t low, int64_t high, int64_t *number);
int pk_json_is(pk_json value, const char *text);
/* The text as UTF-8 with a final zero byte; returns its bytes without that, or -1: no text, or one
 * that holds a zero character. A `room` of 0 asks for the size. */
long pk_json_text(pk_json value, char *out, size_t room);

/* ---- model (manifest.c) ---- */

struct panokit_model {
    panokit_info info;
    int on_input_grid;
    float threshold;
    int32_t window, top_k;
    int64_t min_thing_area, min_stuff_area;
    double min_thing_score;
    int32_t *by_id;              /* channels in the order of their category ids [C] */
    panokit_category *categories;
};

/* ---- session ---- */

typedef struct pk_axis { /* one axis of a grid over the input */
    int32_t n, from, to; /* cells, and those whose centres lie on the photo */
    const float *centers; /* in input pixels */
} pk_axis;

typedef struct pk_group { /* outputs of an axis that lie between the same two inputs, evenly */
    int32_t low, high, from, to;
    float step; /* of their weights */
} pk_group;

typedef struct pk_taps {
    int32_t groups;
    pk_group *group;
    float *f;            /* weight of `high`, one for each output, and 3 more to read over the end */
    float *centers;      /* of the outputs, in input pixels, and 3 more */
} pk_taps;

typedef struct pk_center {
    float score, y, x;
    int32_t cell;
} pk_center;

typedef struct pk_matte_memory {
    float *guide, *mask, *first, *wide, *fields, *found;
    double *coefficients, *columns, *sums;
    uint8_t *flag, *flag2;
    int32_t *counts;
    size_t cells;
} pk_matte_memory;

struct panokit_session {
    const panokit_model *model;
    panokit_options options;
    size_t bytes;
    /* photo */
    panokit_transform transform;
    int has_photo, has_input, has_result;
    int64_t max_side;
    uint8_t *row;                /* one upright row of the photo, RGB [max_side][3] */
    uint8_t *ring;               /* rows that the vertical kernel reaches, RGB [ring_rows][W][3] */
    size_t ring_bytes;
    int32_t *weights_x, *weights_y, *start_x, *start_y, *count_x, *count_y;
    size_t weight_room;
    uint8_t *input;              /* RGB [H][W][3] */
    /* heads, float, channels last; `semantic` has rows of `padded` channels */
    int32_t h, w, channels, padded;
    float *semantic, *center, *offset, *scores, *row_max, *line, *table;
    /* decoding */
    pk_taps rows, cols;
    pk_axis grid_y, grid_x, cells_y, cells_x;
    float *cell_y, *cell_x;
    int32_t *class_map, *votes, *ids;
    float *probability;
    float *high, *low;           /* [padded] highest and lowest corner of a block */
    int32_t *maybe, *wide;       /* channels that may win, or that change too much for the sum */
    pk_center *centers;
    float *center_y, *center_x;  /* [most_centers + 3] */
    int32_t center_count, most_centers;
    int32_t *asked;
    float *asked_y, *asked_x, *bound;
    int32_t *counts;             /* [most_centers][thing channels] */
    int32_t *thing_index, *thing_channel;
    int32_t things;
    int32_t *top, *areas, *id_of_rank, *id_of_channel;
    int64_t *channel_area;
    double *sums, *channel_sums, *pair_sums;
    float cut;                   /* centre logits below cannot reach the threshold */
    float negligible;            /* logits so far below the highest do not count */
    panokit_segment *segments;
    int32_t segment_count;
    int64_t *border, *touching;  /* by id, for panokit_portrait */
    int32_t *mult_y, *first_y, *mult_x, *first_x; /* photo rows and columns of each grid line */
    /* explain */
    float *full_semantic, *full_offset, *real_semantic, *center_scores;
    int32_t *center_cells;
    pk_matte_memory matte;
};

/* image.c */
panokit_status pk_check_image(const panokit_image *image, panokit_error *error);
void pk_upright_size(const panokit_image *image, int32_t *width, int32_t *height);
void pk_upright_row(const panokit_image *image, int32_t y, uint8_t *rgb);
/* heads.c */
panokit_status pk_read_heads(panokit_session *session, const panokit_tensor heads[3],
                             panokit_error *error);
/* result.c */
void pk_measure_on_photo(panokit_session *session);
int32_t pk_grid_row(const panokit_session *session, int64_t photo_row);
int32_t pk_grid_column(const panokit_session *session, int64_t photo_column);
/* matte.c */
size_t pk_matte_cells(void);

#endif
