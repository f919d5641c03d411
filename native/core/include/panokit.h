/* Panokit core: from a camera picture to a panoptic map, on a phone.
 *
 * The app runs the network itself (LiteRT, Core ML, ONNX Runtime); this library does what lies
 * before and behind it, equal to the bit with Panokit's reference in Python:
 *
 *     manifest.json  → panokit_open            once; many threads may share the model
 *                      panokit_session_open    once a thread; holds all working memory
 *     picture        → panokit_preprocess      letterbox, Pillow's bilinear kernel, pixel formats
 *                      panokit_input           the network's input tensor
 *     heads          → panokit_decode          dequantise, classes, centres, votes, instances
 *     result         → panokit_segments, panokit_photo_ids, panokit_rle, panokit_matte
 *     dump           → panokit_dump_*          what the phone computed, for `panokit validate`
 *
 * C99 and nothing else. No global state. After panokit_session_open nothing is allocated. Every
 * function that can fail returns a code, and a sentence in panokit_error if it is given one.
 * A session belongs to one thread at a time.
 *
 * Compile with -ffp-contract=off: a fused multiply-add has other bits. panokit_open refuses to
 * work in a build that would compute them.
 */
#ifndef PANOKIT_H
#define PANOKIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PANOKIT_VERSION "0.1.0"

/* ---- errors ---------------------------------------------------------------------------------- */

typedef enum panokit_status {
    PANOKIT_OK = 0,
    PANOKIT_BAD_ARGUMENT = 1, /* a parameter cannot be used, or a call came too early */
    PANOKIT_BAD_MANIFEST = 2, /* not JSON, a field is missing or has an impossible value */
    PANOKIT_UNSUPPORTED = 3,  /* right, but nothing this version can do */
    PANOKIT_BAD_IMAGE = 4,    /* sizes, strides or planes of a picture do not fit */
    PANOKIT_BAD_HEAD = 5,     /* a head has a wrong shape, or a number that is not finite */
    PANOKIT_TOO_LARGE = 6,    /* more than a limit that the session was opened with */
    PANOKIT_NO_MEMORY = 7,
    PANOKIT_NO_ROOM = 8,      /* the caller's buffer is too small; the size needed is told */
    PANOKIT_WRITE_FAILED = 9, /* the caller's writer said so */
    PANOKIT_BAD_BUILD = 10    /* this build fuses multiply-adds: compile with -ffp-contract=off */
} panokit_status;

typedef enum panokit_head { PANOKIT_SEMANTIC = 0, PANOKIT_CENTER = 1, PANOKIT_OFFSET = 2 } panokit_head;

typedef struct panokit_error {
    panokit_status status;
    char message[256];   /* one sentence: what is wrong, where, what was expected */
    int head;            /* PANOKIT_BAD_HEAD: a panokit_head, else -1 */
    int has_position;    /* whether `position` says where in the head */
    int32_t position[3]; /* row, column, channel */
} panokit_error;

/* ---- model ----------------------------------------------------------------------------------- */

typedef enum panokit_dtype {
    PANOKIT_U8 = 0, PANOKIT_I8, PANOKIT_I16, PANOKIT_F16, PANOKIT_F32,
    PANOKIT_I32, PANOKIT_U16, PANOKIT_I64 /* the last three for dumps alone */
} panokit_dtype;

typedef enum panokit_layout { PANOKIT_NHWC = 0, PANOKIT_NCHW, PANOKIT_IMAGE } panokit_layout;

typedef struct panokit_tensor_spec {
    const char *name;  /* inside the artifact */
    panokit_dtype dtype;
    panokit_layout layout;
    int32_t height, width, channels;
    int quantized;     /* real = (q - zero_point) * scale */
    float scale;
    int32_t zero_point;
} panokit_tensor_spec;

typedef struct panokit_category {
    int32_t id;
    const char *name;
    int is_thing;
} panokit_category;

typedef struct panokit_info {
    const char *name;      /* of the bundle */
    const char *artifact;  /* its name in the bundle */
    const char *file;      /* where it lies in the bundle */
    const char *sha256;
    const char *precision;
    int32_t input_width, input_height;
    int32_t grid_width, grid_height;   /* of the decoded map */
    int32_t category_count;
    const panokit_category *categories; /* category i is channel i */
    panokit_tensor_spec input;
    panokit_tensor_spec heads[3];       /* by panokit_head */
} panokit_info;

typedef struct panokit_model panokit_model;
typedef struct panokit_session panokit_session;

/* Reads a bundle's manifest.json (UTF-8, `bytes` long, not kept) and takes one artifact; NULL: the
 * first TFLite one, int8 before others, else ONNX, else the first. */
panokit_status panokit_open(const char *manifest, size_t bytes, const char *artifact,
                            panokit_model **model, panokit_error *error);
const panokit_info *panokit_model_info(const panokit_model *model);
/* After all of its sessions. */
void panokit_close(panokit_model *model);

typedef struct panokit_options {
    int32_t max_photo_side; /* 0: 16384 pixels */
    int32_t matte;          /* not 0: memory for panokit_matte, 25 MB */
    int32_t explain;        /* not 0: keep the intermediates for panokit_explain */
} panokit_options;

/* All memory that this session will ever use; `options` may be NULL. */
panokit_status panokit_session_open(const panokit_model *model, const panokit_options *options,
                                    panokit_session **session, panokit_error *error);
size_t panokit_session_bytes(const panokit_session *session);
void panokit_session_close(panokit_session *session);

/* ---- picture to input ------------------------------------------------------------------------ */

typedef enum panokit_pixel_format {
    PANOKIT_RGB8 = 0,
    PANOKIT_RGBX8,  /* fourth byte left out: opaque, or alpha already multiplied in */
    PANOKIT_BGRX8,
    PANOKIT_RGBA8,  /* alpha beside the colour: composited over black */
    PANOKIT_BGRA8,
    PANOKIT_YUV420  /* 8 bit, three planes; a chroma sample for 2x2 pixels */
} panokit_pixel_format;

typedef enum panokit_yuv_matrix { PANOKIT_BT601 = 0, PANOKIT_BT709 = 1 } panokit_yuv_matrix;

typedef struct panokit_image {
    panokit_pixel_format format;
    int32_t width, height;   /* as the buffer lies, before `orientation` */
    int32_t orientation;     /* EXIF 1..8, 0 as 1: how to turn it upright */
    const uint8_t *data;     /* the first row; YUV420: the Y plane */
    ptrdiff_t row_stride;    /* bytes from row to row; negative: bottom up */
    /* YUV420 alone. NV12 is u = uv, v = uv + 1, step 2; NV21 has the two the other way round. */
    const uint8_t *u, *v;    /* Cb and Cr */
    ptrdiff_t chroma_row_stride;
    ptrdiff_t chroma_step;   /* bytes from sample to sample: 1 planar, 2 interleaved */
    int32_t full_range;      /* 0: video range (16..235) */
    panokit_yuv_matrix matrix;
} panokit_image;

/* How a photo lies in the input; what is outside the content is padding. */
typedef struct panokit_transform {
    int32_t photo_width, photo_height; /* upright */
    int32_t input_width, input_height;
    int32_t content_width, content_height;
    int32_t left, top;
} panokit_transform;

panokit_status panokit_letterbox(int32_t photo_width, int32_t photo_height, int32_t input_width,
                                 int32_t input_height, panokit_transform *transform);

/* Makes the input from a picture in sRGB and remembers how; the session holds it until the next. */
panokit_status panokit_preprocess(panokit_session *session, const panokit_image *image,
                                  panokit_error *error);
/* For heads of an input that the app made itself in the same way (Vision's scaleFit, say). */
panokit_status panokit_set_photo(panokit_session *session, int32_t photo_width,
                                 int32_t photo_height, panokit_error *error);
const panokit_transform *panokit_session_transform(const panokit_session *session);
/* The input as RGB, [height][width][3]. */
const uint8_t *panokit_input_rgb(const panokit_session *session);
/* The input as the artifact takes it: type, quantisation and layout as the manifest says. */
size_t panokit_input_bytes(const panokit_model *model);
panokit_status panokit_input(const panokit_session *session, void *tensor, size_t bytes,
                             panokit_error *error);
/* The same as 4 bytes a pixel for a platform image: PANOKIT_RGBX8 or PANOKIT_BGRX8, alpha 255. */
panokit_status panokit_input_pixels(const panokit_session *session, panokit_pixel_format format,
                                    uint8_t *pixels, size_t row_stride, panokit_error *error);

/* ---- heads to map ---------------------------------------------------------------------------- */

typedef struct panokit_tensor {
    const void *data;
    size_t bytes;         /* of the whole buffer: nothing beyond is read */
    panokit_dtype dtype;  /* F32 and F16 are real values; whole numbers are dequantised */
    /* Elements from one row, column and channel to the next; all 0: dense, in the layout that the
     * manifest gives the head. */
    ptrdiff_t row_stride, column_stride, channel_stride;
} panokit_tensor;

/* `heads` by panokit_head. The result stays in the session until the next call. */
panokit_status panokit_decode(panokit_session *session, const panokit_tensor heads[3],
                              panokit_error *error);

typedef struct panokit_segment {
    int32_t id;       /* its value in the maps; 0 there is void */
    int32_t channel;  /* its category in panokit_info.categories */
    int32_t is_thing;
    double score;     /* 0..1 */
    int32_t area;     /* pixels of the decode grid */
    float center_y, center_x; /* things: the network's centre in input pixels */
    int64_t photo_area;       /* photo pixels; 0: no pixel of the photo falls into it */
    int32_t box[4];           /* left, top, right, bottom in photo pixels, ends exclusive */
} panokit_segment;

/* In id order: things by their centres' scores, then stuff by category id. */
const panokit_segment *panokit_segments(const panokit_session *session, int32_t *count);
/* The map on the decode grid, [grid_height][grid_width]. */
const int32_t *panokit_ids(const panokit_session *session);
/* How many things of a category were found; negative: no such channel or no result. */
int32_t panokit_count(const panokit_session *session, int32_t channel);

/* The map on the upright photo. `id_bytes` is 1, 2 or 4: unsigned whole numbers. `row_stride` in
 * bytes. PANOKIT_TOO_LARGE if an id does not fit. */
panokit_status panokit_photo_ids(const panokit_session *session, void *ids, int32_t id_bytes,
                                 size_t row_stride, panokit_error *error);
/* The id at a photo pixel, -1 outside. */
int32_t panokit_id_at(const panokit_session *session, int32_t x, int32_t y);

/* A segment's mask on the photo as COCO's compressed run lengths (text, with a final zero byte).
 * `needed` gets the bytes that it takes; a NULL `text` asks for them alone. */
panokit_status panokit_rle(const panokit_session *session, int32_t id, char *text, size_t bytes,
                           size_t *needed, panokit_error *error);

typedef struct panokit_explanation { /* all NULL unless the session was opened with `explain` */
    const float *real[3];        /* dequantised heads, channels last, by panokit_head */
    const float *semantic;       /* resized, [grid_height][grid_width][C] */
    const float *offset;         /* resized, [grid_height][grid_width][2] */
    const int32_t *class_map;    /* channel, -1 = void */
    const float *scores;         /* [h][w] */
    const int32_t *centers;      /* [n][2] row, column */
    const float *center_scores;  /* [n] */
    const int32_t *votes;        /* rank, -1 = none */
    int32_t center_count;
} panokit_explanation;
panokit_status panokit_explain(const panokit_session *session, panokit_explanation *out);

/* ---- portrait -------------------------------------------------------------------------------- */

/* Ids of all persons and of what they wear or hold, ascending; `needed` gets how many. */
panokit_status panokit_portrait(const panokit_session *session, int32_t *ids, int32_t room,
                                int32_t *needed, panokit_error *error);
/* The soft matte of some segments along the photo's own edges: 1 well inside, 0 well outside.
 * `image` is the picture that was segmented, `alpha` [photo_height][photo_width] with `row_stride`
 * floats from row to row. The session must have been opened with `matte`. */
panokit_status panokit_matte(panokit_session *session, const panokit_image *image,
                             const int32_t *ids, int32_t count, float *alpha, size_t row_stride,
                             panokit_error *error);

/* ---- dump ------------------------------------------------------------------------------------ */

#define PANOKIT_DUMP_TENSORS 12
#define PANOKIT_DUMP_TEXTS 24

/* Names, texts and numbers are not copied: they must live until panokit_dump_write. */
typedef struct panokit_dump {
    const panokit_session *session; /* adds artifact, segments and transform by itself; may be NULL */
    int32_t tensor_count, text_count;
    struct {
        const char *name;
        panokit_dtype dtype;
        int32_t rank;
        int64_t shape[4];
        const void *data;
        size_t bytes;
    } tensors[PANOKIT_DUMP_TENSORS];
    struct {
        const char *key, *value;
    } texts[PANOKIT_DUMP_TEXTS];
} panokit_dump;

void panokit_dump_init(panokit_dump *dump, const panokit_session *session);
/* What the device was: "device", "os", "app", "runtime", "delegate", "photo" and so on. */
panokit_status panokit_dump_text(panokit_dump *dump, const char *key, const char *value,
                                 panokit_error *error);
/* `data` is dense, little-endian, channels last, and `bytes` long. */
panokit_status panokit_dump_tensor(panokit_dump *dump, const char *name, panokit_dtype dtype,
                                   int32_t rank, const int64_t *shape, const void *data,
                                   size_t bytes, panokit_error *error);
/* `input`, and `panoptic` if there is a result, from the session. */
panokit_status panokit_dump_result(panokit_dump *dump, panokit_error *error);
/* A raw head with its dense values as the runtime gave them, channels last. */
panokit_status panokit_dump_head(panokit_dump *dump, panokit_head head, panokit_dtype dtype,
                                 const void *data, size_t bytes, panokit_error *error);

/* Gets the file piece by piece; returns 0 when it was written. */
typedef int (*panokit_writer)(void *context, const void *bytes, size_t count);
panokit_status panokit_dump_write(const panokit_dump *dump, panokit_writer writer, void *context,
                                  panokit_error *error);

#ifdef __cplusplus
}
#endif
#endif
