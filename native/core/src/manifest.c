/* From manifest.json to a model: everything is checked here, so that nothing is later. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

#define BAD(...) pk_fail(error, PANOKIT_BAD_MANIFEST, __VA_ARGS__)

/* Memory of the model: first counted, then handed out. */
typedef struct store {
    char *at;
    size_t used;
} store;

static char *take_text(store *s, pk_json value) {
    long n = pk_json_text(value, NULL, 0);
    char *text = s->at ? s->at + s->used : NULL;
    if (n < 0) return NULL;
    if (text) pk_json_text(value, text, (size_t)n + 1);
    s->used += (size_t)n + 1;
    return text ? text : "";
}

static panokit_status read_text(store *s, pk_json object, const char *name, const char *where,
                                size_t most, const char **text, panokit_error *error) {
    pk_json value = pk_json_get(object, name);
    long n = pk_json_text(value, NULL, 0);
    if (n < 0 || (size_t)n > most)
        return BAD("manifest: '%s' of %s is missing or no text of at most %lu bytes", name, where,
                   (unsigned long)most);
    *text = take_text(s, value);
    return PANOKIT_OK;
}

static panokit_status read_categories(store *s, panokit_model *m, panokit_category *out,
                                      pk_json taxonomy, panokit_error *error) {
    pk_json list = pk_json_get(taxonomy, "categories"), item, value;
    int32_t n = 0;
    if (pk_json_kind(list) != '[')
        return BAD("manifest: 'taxonomy' has no list 'categories'");
    for (item = pk_json_first(list, NULL); item.at; item = pk_json_next(list, item, NULL), n++) {
        int64_t id, thing = 1;
        panokit_status status;
        panokit_category category;
        if (n >= PK_MAX_CATEGORIES)
            return BAD("manifest: more than %d categories", PK_MAX_CATEGORIES);
        if (!pk_json_whole(pk_json_get(item, "id"), 1, ((int64_t)1 << 24) - 1, &id))
            return BAD("manifest: category %ld needs an 'id', a whole number from 1 to 2^24 - 1",
                       (long)n);
        value = pk_json_get(item, "isthing");
        if (value.at && pk_json_kind(value) == '0') {
            double number;
            if (!pk_json_number(value, &number)) number = 1;
            thing = number != 0;
        } else if (value.at) {
            if (pk_json_kind(value) != 't' && pk_json_kind(value) != 'f')
                return BAD("manifest: category %ld: 'isthing' must be 0 or 1", (long)n);
            thing = pk_json_kind(value) == 't';
        }
        status = read_text(s, item, "name", "a category", 800, &category.name, error);
        if (status) return status;
        if (pk_json_text(pk_json_get(item, "name"), NULL, 0) < 1)
            return BAD("manifest: category %ld has an empty name", (long)n);
        category.id = (int32_t)id;
        category.is_thing = (int)thing;
        if (out) out[n] = category;
    }
    if (n == 0) return BAD("manifest: the taxonomy has no categories");
    m->info.category_count = n;
    return PANOKIT_OK;
}

/* Channels in the order of their ids (heap sort, no recursion). */
static void sort_by_id(int32_t *order, const panokit_category *categories, int32_t n) {
    int32_t start = n / 2, end = n;
    while (end > 1) {
        int32_t root, child, kept;
        if (start > 0) {
            start--;
        } else {
            end--;
            kept = order[end];
            order[end] = order[0];
            order[0] = kept;
        }
        for (root = start; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && categories[order[child]].id < categories[order[child + 1]].id)
                child++;
            if (categories[order[root]].id >= categories[order[child]].id) break;
            kept = order[root];
            order[root] = order[child];
            order[child] = kept;
        }
    }
}

static panokit_status check_categories(panokit_model *m, panokit_error *error) {
    int32_t i, n = m->info.category_count;
    for (i = 0; i < n; i++) m->by_id[i] = i;
    sort_by_id(m->by_id, m->categories, n);
    for (i = 1; i < n; i++)
        if (m->categories[m->by_id[i]].id == m->categories[m->by_id[i - 1]].id)
            return BAD("manifest: two categories share the id %ld",
                       (long)m->categories[m->by_id[i]].id);
    return PANOKIT_OK;
}

static int known(pk_json object, const char *const *names, pk_json *stranger) {
    pk_json item, name;
    for (item = pk_json_first(object, &name); item.at; item = pk_json_next(object, item, &name)) {
        int i, found = 0;
        for (i = 0; names[i]; i++) found |= pk_json_is(name, names[i]);
        if (!found) {
            *stranger = name;
            return 0;
        }
    }
    return 1;
}

static panokit_status unknown(pk_json name, const char *where, panokit_error *error) {
    char shown[48];
    pk_json_text(name, shown, sizeof shown);
    return pk_fail(error, PANOKIT_UNSUPPORTED,
                   "manifest: '%s' has the unknown name '%s'; it asks for something that this "
                   "version does not compute",
                   where, shown);
}

static panokit_status read_preprocessing(panokit_model *m, pk_json root, panokit_error *error) {
    static const char *const names[] = {"size_wh", "kernel", NULL};
    pk_json part = pk_json_get(root, "preprocessing"), size, first, second, stranger;
    int64_t w = 320, h = 320;
    if (pk_json_kind(part) != '{') return BAD("manifest: 'preprocessing' is missing");
    if (!known(part, names, &stranger)) return unknown(stranger, "preprocessing", error);
    size = pk_json_get(part, "size_wh");
    if (size.at) {
        first = pk_json_first(size, NULL);
        second = pk_json_next(size, first, NULL);
        if (pk_json_kind(size) != '[' || !pk_json_whole(first, 1, PK_MAX_SIDE, &w) ||
            !pk_json_whole(second, 1, PK_MAX_SIDE, &h) || pk_json_next(size, second, NULL).at)
            return BAD("manifest: 'size_wh' must be two whole numbers from 1 to %d", PK_MAX_SIDE);
    }
    if (pk_json_get(part, "kernel").at && !pk_json_is(pk_json_get(part, "kernel"), "pillow-bilinear"))
        return pk_fail(error, PANOKIT_UNSUPPORTED,
                       "manifest: the resize kernel is not 'pillow-bilinear'");
    m->info.input_width = (int32_t)w;
    m->info.input_height = (int32_t)h;
    return PANOKIT_OK;
}

static int read_share(pk_json part, const char *name, double *value) {
    pk_json given = pk_json_get(part, name);
    return !given.at || (pk_json_number(given, value) && *value >= 0 && *value <= 1);
}

static int read_count(pk_json part, const char *name, int64_t least, int64_t *value) {
    pk_json given = pk_json_get(part, name);
    return !given.at || pk_json_whole(given, least, (int64_t)1 << 53, value);
}

static panokit_status read_postprocessing(panokit_model *m, pk_json root, panokit_error *error) {
    static const char *const names[] = {"threshold", "window", "top_k", "min_thing_area",
                                        "min_stuff_area", "grid", "min_thing_score", NULL};
    pk_json part = pk_json_get(root, "postprocessing"), grid, stranger;
    double threshold = 0.25;
    int64_t window = 7, top_k = 100, limit = 1 << 30;
    if (pk_json_kind(part) != '{') return BAD("manifest: 'postprocessing' is missing");
    if (!known(part, names, &stranger)) return unknown(stranger, "postprocessing", error);
    m->min_thing_area = 64;
    m->min_stuff_area = 256;
    m->min_thing_score = 0;
    if (!read_share(part, "threshold", &threshold))
        return BAD("manifest: 'threshold' must be a number from 0 to 1");
    if (!read_share(part, "min_thing_score", &m->min_thing_score))
        return BAD("manifest: 'min_thing_score' must be a number from 0 to 1");
    if (!read_count(part, "window", 1, &window) || window % 2 == 0)
        return BAD("manifest: 'window' must be an odd whole number of at least 1");
    if (!read_count(part, "top_k", 1, &top_k))
        return BAD("manifest: 'top_k' must be a whole number of at least 1");
    if (!read_count(part, "min_thing_area", 0, &m->min_thing_area) ||
        !read_count(part, "min_stuff_area", 0, &m->min_stuff_area))
        return BAD("manifest: least areas must be whole numbers of at least 0");
    grid = pk_json_get(part, "grid");
    m->on_input_grid = !grid.at || pk_json_is(grid, "input");
    if (!m->on_input_grid && !pk_json_is(grid, "head"))
        return BAD("manifest: 'grid' must be 'input' or 'head'");
    m->threshold = (float)threshold;
    m->window = (int32_t)(window < limit ? window : limit - 1);
    m->top_k = (int32_t)(top_k < limit ? top_k : limit);
    return PANOKIT_OK;
}

static int read_dtype(pk_json value, panokit_dtype *dtype) {
    static const char *const names[] = {"uint8", "int8", "int16", "float16", "float32"};
    int i;
    for (i = 0; i < 5; i++) {
        if (pk_json_is(value, names[i])) {
            *dtype = (panokit_dtype)i;
            return 1;
        }
    }
    return 0;
}

/* `rank3` gets height, width and channels from a shape with a batch axis. */
static int read_shape(pk_json value, int channels_first, int32_t *height, int32_t *width,
                      int32_t *channels) {
    int64_t side[4];
    int n = 0;
    pk_json item;
    if (pk_json_kind(value) != '[') return 0;
    for (item = pk_json_first(value, NULL); item.at; item = pk_json_next(value, item, NULL)) {
        if (n == 4 || !pk_json_whole(item, 1, 1 << 20, &side[n])) return 0;
        n++;
    }
    if (n != 4 || side[0] != 1) return 0;
    *height = (int32_t)side[channels_first ? 2 : 1];
    *width = (int32_t)side[channels_first ? 3 : 2];
    *channels = (int32_t)side[channels_first ? 1 : 3];
    return 1;
}

static panokit_status read_spec(store *s, pk_json value, const char *what, panokit_tensor_spec *spec,
                                panokit_error *error) {
    pk_json layout = pk_json_get(value, "layout"), scale = pk_json_get(value, "scale");
    pk_json zero = pk_json_get(value, "zero_point");
    panokit_status status;
    int64_t number = 0;
    double real = 0;
    memset(spec, 0, sizeof *spec);
    if (pk_json_kind(value) != '{') return BAD("manifest: the artifact has no tensor '%s'", what);
    status = read_text(s, value, "name", what, 1000, &spec->name, error);
    if (status) return status;
    if (!read_dtype(pk_json_get(value, "dtype"), &spec->dtype))
        return pk_fail(error, PANOKIT_UNSUPPORTED,
                       "manifest: '%s' must be uint8, int8, int16, float16 or float32", what);
    spec->layout = pk_json_is(layout, "nchw") ? PANOKIT_NCHW : PANOKIT_NHWC;
    if (pk_json_is(layout, "image")) spec->layout = PANOKIT_IMAGE;
    if (spec->layout == PANOKIT_NHWC && !pk_json_is(layout, "nhwc"))
        return BAD("manifest: the layout of '%s' must be nhwc, nchw or image", what);
    if (!read_shape(pk_json_get(value, "shape"), spec->layout == PANOKIT_NCHW, &spec->height,
                    &spec->width, &spec->channels))
        return BAD("manifest: the shape of '%s' must be four whole numbers, the first 1", what);
    if (scale.at && pk_json_kind(scale) != 'n') {
        if (!pk_json_number(scale, &real) || !(real > 0 && real <= 1e30))
            return BAD("manifest: the scale of '%s' must be a number above 0", what);
        spec->quantized = 1;
        spec->scale = (float)real;
    }
    if (zero.at && pk_json_kind(zero) != 'n' && !pk_json_whole(zero, -65536, 65536, &number))
        return BAD("manifest: the zero point of '%s' must be a whole number", what);
    spec->zero_point = (int32_t)number;
    if (spec->quantized && spec->dtype >= PANOKIT_F16) spec->quantized = 0;
    return PANOKIT_OK;
}

static int rank_of(pk_json artifact) {
    int tflite = pk_json_is(pk_json_get(artifact, "format"), "tflite");
    int onnx = pk_json_is(pk_json_get(artifact, "format"), "onnx");
    int int8 = pk_json_is(pk_json_get(artifact, "precision"), "int8");
    return tflite ? (int8 ? 0 : 1) : onnx ? (int8 ? 2 : 3) : 4;
}

static int same_text(pk_json value, const char *text) {
    size_t n = strlen(text);
    char *copy;
    int same = 0;
    if (pk_json_text(value, NULL, 0) != (long)n) return 0;
    copy = malloc(n + 1);
    if (copy) {
        pk_json_text(value, copy, n + 1);
        same = strcmp(copy, text) == 0;
    }
    free(copy);
    return same;
}

static panokit_status find_artifact(pk_json root, const char *wanted, pk_json *out,
                                    panokit_error *error) {
    pk_json list = pk_json_get(root, "artifacts"), item;
    int best = 9;
    out->at = NULL;
    if (pk_json_kind(list) != '[') return BAD("manifest: 'artifacts' is missing");
    for (item = pk_json_first(list, NULL); item.at; item = pk_json_next(list, item, NULL)) {
        if (wanted) {
            if (!out->at && same_text(pk_json_get(item, "name"), wanted)) *out = item;
        } else if (rank_of(item) < best) {
            best = rank_of(item);
            *out = item;
        }
    }
    if (out->at) return PANOKIT_OK;
    if (wanted) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "the bundle has no artifact '%.80s'", wanted);
    return BAD("manifest: the bundle has no artifact");
}

static panokit_status read_artifact(store *s, panokit_model *m, pk_json artifact,
                                    panokit_error *error) {
    panokit_info *info = &m->info;
    pk_json outputs = pk_json_get(artifact, "outputs");
    panokit_status status;
    int i;
    if ((status = read_text(s, artifact, "name", "the artifact", 1000, &info->artifact, error)) ||
        (status = read_text(s, artifact, "file", "the artifact", 1000, &info->file, error)) ||
        (status = read_text(s, artifact, "sha256", "the artifact", 1000, &info->sha256, error)) ||
        (status = read_text(s, artifact, "precision", "the artifact", 1000, &info->precision, error)))
        return status;
    status = read_spec(s, pk_json_get(artifact, "input"), "input", &info->input, error);
    for (i = 0; i < 3 && !status; i++)
        status = read_spec(s, pk_json_get(outputs, pk_head_names[i]), pk_head_names[i],
                           &info->heads[i], error);
    return status;
}

static panokit_status check_shapes(panokit_model *m, panokit_error *error) {
    panokit_info *info = &m->info;
    const panokit_tensor_spec *semantic = &info->heads[PANOKIT_SEMANTIC];
    static const int32_t channels[3] = {0, 1, 2};
    int i;
    if (info->input.width != info->input_width || info->input.height != info->input_height ||
        info->input.channels != 3)
        return BAD("manifest: the artifact's input has another size than 'size_wh', or not 3 channels");
    if (info->input.dtype == PANOKIT_I8 && !info->input.quantized)
        return BAD("manifest: the int8 input has no scale");
    for (i = 0; i < 3; i++) {
        const panokit_tensor_spec *spec = &info->heads[i];
        int32_t wanted = i == 0 ? info->category_count : channels[i];
        if (spec->width != semantic->width || spec->height != semantic->height)
            return BAD("manifest: the head '%s' has another size than 'semantic'", pk_head_names[i]);
        if (spec->channels != wanted)
            return BAD("manifest: the head '%s' has %ld channels, expected %ld", pk_head_names[i],
                       (long)spec->channels, (long)wanted);
        if (spec->dtype < PANOKIT_F16 && !spec->quantized)
            return BAD("manifest: the head '%s' holds whole numbers, but has no scale",
                       pk_head_names[i]);
    }
    info->grid_width = m->on_input_grid ? info->input_width : semantic->width;
    info->grid_height = m->on_input_grid ? info->input_height : semantic->height;
    return PANOKIT_OK;
}

/* Reads everything; with a store that has no memory yet it only counts. */
static panokit_status read_all(store *s, panokit_model *m, panokit_category *categories,
                               pk_json root, const char *wanted, panokit_error *error) {
    pk_json artifact, contract = pk_json_get(root, "contract");
    panokit_status status;
    int64_t version;
    if (!pk_json_whole(pk_json_get(root, "schema_version"), 1, 1, &version))
        return pk_fail(error, PANOKIT_UNSUPPORTED, "manifest: 'schema_version' is not 1");
    if (contract.at && !pk_json_is(contract, "center-offset"))
        return pk_fail(error, PANOKIT_UNSUPPORTED,
                       "manifest: the contract of the heads is not 'center-offset'");
    if ((status = read_text(s, root, "name", "the bundle", 1000, &m->info.name, error)) ||
        (status = read_categories(s, m, categories, pk_json_get(root, "taxonomy"), error)) ||
        (status = read_preprocessing(m, root, error)) ||
        (status = read_postprocessing(m, root, error)) ||
        (status = find_artifact(root, wanted, &artifact, error)) ||
        (status = read_artifact(s, m, artifact, error)))
        return status;
    return check_shapes(m, error);
}

panokit_status panokit_open(const char *manifest, size_t bytes, const char *artifact,
                            panokit_model **model, panokit_error *error) {
    panokit_model counted, *m;
    panokit_status status;
    store s = {NULL, 0};
    pk_json root;
    size_t where = 0, channels;
    char *memory;
    pk_clear(error);
    if (!model) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'model' is NULL");
    *model = NULL;
    if (!manifest) return pk_fail(error, PANOKIT_BAD_ARGUMENT, "'manifest' is NULL");
#ifndef PANOKIT_ANY_BUILD
    if (!pk_is_unfused())
        return pk_fail(error, PANOKIT_BAD_BUILD,
                       "this build fuses multiply-adds and would compute other bits; compile with "
                       "-ffp-contract=off");
#endif
    if (bytes > PK_MAX_MANIFEST)
        return BAD("manifest: expected at most %d bytes", PK_MAX_MANIFEST);
    if (!pk_json_open(manifest, bytes, &root, &where))
        return BAD("manifest: expected JSON, but byte %lu is wrong", (unsigned long)where);
    memset(&counted, 0, sizeof counted);
    status = read_all(&s, &counted, NULL, root, artifact, error);
    if (status) return status;
    channels = (size_t)counted.info.category_count;
    memory = calloc(1, sizeof *m + channels * (sizeof(panokit_category) + sizeof(int32_t)) + s.used);
    if (!memory) return pk_fail(error, PANOKIT_NO_MEMORY, "not enough memory for the manifest");
    m = (panokit_model *)(void *)memory;
    m->categories = (panokit_category *)(void *)(memory + sizeof *m);
    m->by_id = (int32_t *)(void *)(m->categories + channels);
    s.at = (char *)(m->by_id + channels);
    s.used = 0;
    status = read_all(&s, m, m->categories, root, artifact, error);
    m->info.categories = m->categories;
    if (!status) status = check_categories(m, error);
    if (status) {
        free(m);
        return status;
    }
    *model = m;
    return PANOKIT_OK;
}

const panokit_info *panokit_model_info(const panokit_model *model) {
    return model ? &model->info : NULL;
}

void panokit_close(panokit_model *model) {
    free(model);
}
