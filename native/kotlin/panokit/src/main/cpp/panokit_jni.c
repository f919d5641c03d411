/* The core for the JVM: panokit.Native in Kotlin. Handles are pointers; buffers are direct ones, and
 * every access is checked against their capacity, because the core cannot know it. Texts travel as
 * UTF-8 bytes: JNI's own strings are another encoding. */
#include <jni.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "panokit.h"

#define NATIVE(type, name) JNIEXPORT type JNICALL Java_panokit_Native_##name

static void *pointer(jlong handle) { return (void *)(intptr_t)handle; }

static jbyteArray bytes_of(JNIEnv *env, const char *text) {
    jsize n = (jsize)strlen(text);
    jbyteArray array = (*env)->NewByteArray(env, n);
    if (array) (*env)->SetByteArrayRegion(env, array, 0, n, (const jbyte *)text);
    return array;
}

/* Throws PanokitException(status, message, head, position). */
static void raise(JNIEnv *env, const panokit_error *error) {
    jclass type = (*env)->FindClass(env, "panokit/PanokitException");
    jmethodID make;
    jintArray position;
    jobject exception;
    if (!type) return;
    make = (*env)->GetMethodID(env, type, "<init>", "(I[BI[I)V");
    position = (*env)->NewIntArray(env, error->has_position ? 3 : 0);
    if (!make || !position) return;
    if (error->has_position) (*env)->SetIntArrayRegion(env, position, 0, 3, (const jint *)error->position);
    exception = (*env)->NewObject(env, type, make, (jint)error->status, bytes_of(env, error->message),
                                  (jint)error->head, position);
    if (exception) (*env)->Throw(env, (jthrowable)exception);
}

static void refuse(JNIEnv *env, panokit_status status, const char *message) {
    panokit_error error;
    memset(&error, 0, sizeof error);
    error.status = status;
    error.head = -1;
    snprintf(error.message, sizeof error.message, "%s", message);
    raise(env, &error);
}

/* Bytes of an array with a final zero byte; NULL for null, or when an exception is pending. */
static char *text_of(JNIEnv *env, jbyteArray array) {
    jsize n;
    char *text;
    if (!array) return NULL;
    n = (*env)->GetArrayLength(env, array);
    text = malloc((size_t)n + 1);
    if (!text) {
        refuse(env, PANOKIT_NO_MEMORY, "not enough memory for a text");
        return NULL;
    }
    (*env)->GetByteArrayRegion(env, array, 0, n, (jbyte *)text);
    text[n] = 0;
    return text;
}

static jintArray ints_of(JNIEnv *env, const int32_t *values, size_t n) {
    jintArray array = (*env)->NewIntArray(env, (jsize)n);
    if (array && n) (*env)->SetIntArrayRegion(env, array, 0, (jsize)n, (const jint *)values);
    return array;
}

static jfloatArray floats_of(JNIEnv *env, const float *values, size_t n) {
    jfloatArray array = (*env)->NewFloatArray(env, (jsize)n);
    if (array && n) (*env)->SetFloatArrayRegion(env, array, 0, (jsize)n, values);
    return array;
}

/* ---- model ---- */

NATIVE(jlong, open)(JNIEnv *env, jclass self, jbyteArray manifest, jbyteArray artifact) {
    panokit_model *model = NULL;
    panokit_error error;
    char *text = text_of(env, manifest), *name = artifact ? text_of(env, artifact) : NULL;
    (void)self;
    if (text && (!artifact || name)) {
        size_t bytes = (size_t)(*env)->GetArrayLength(env, manifest);
        if (panokit_open(text, bytes, name, &model, &error)) raise(env, &error);
    }
    free(text);
    free(name);
    return (jlong)(intptr_t)model;
}

NATIVE(void, close)(JNIEnv *env, jclass self, jlong model) {
    (void)env, (void)self;
    panokit_close(pointer(model));
}

/* Name, artifact, file, sha256, precision, then the names of the categories. */
NATIVE(jobjectArray, texts)(JNIEnv *env, jclass self, jlong model) {
    const panokit_info *info = panokit_model_info(pointer(model));
    const char *first[5];
    jclass type = (*env)->FindClass(env, "[B");
    jobjectArray list = (*env)->NewObjectArray(env, 5 + info->category_count, type, NULL);
    int32_t i;
    (void)self;
    first[0] = info->name, first[1] = info->artifact, first[2] = info->file;
    first[3] = info->sha256, first[4] = info->precision;
    for (i = 0; list && i < 5 + info->category_count; i++) {
        jbyteArray text = bytes_of(env, i < 5 ? first[i] : info->categories[i - 5].name);
        if (!text) return NULL;
        (*env)->SetObjectArrayElement(env, list, i, text);
        (*env)->DeleteLocalRef(env, text);
    }
    return list;
}

/* Grid height and width, then of input and heads: type, layout, height, width, channels, zero point,
 * quantised, scale as bits; then of every category: id, is a thing. */
NATIVE(jintArray, numbers)(JNIEnv *env, jclass self, jlong model) {
    const panokit_info *info = panokit_model_info(pointer(model));
    size_t n = 2 + 4 * 8 + 2 * (size_t)info->category_count, at = 2;
    int32_t *values = malloc(n * sizeof *values), i;
    jintArray array;
    (void)self;
    if (!values) {
        refuse(env, PANOKIT_NO_MEMORY, "not enough memory for the model's numbers");
        return NULL;
    }
    values[0] = info->grid_height;
    values[1] = info->grid_width;
    for (i = 0; i < 4; i++, at += 8) {
        const panokit_tensor_spec *spec = i ? &info->heads[i - 1] : &info->input;
        values[at] = (int32_t)spec->dtype, values[at + 1] = (int32_t)spec->layout;
        values[at + 2] = spec->height, values[at + 3] = spec->width, values[at + 4] = spec->channels;
        values[at + 5] = spec->zero_point, values[at + 6] = spec->quantized;
        memcpy(&values[at + 7], &spec->scale, 4);
    }
    for (i = 0; i < info->category_count; i++) {
        values[at++] = info->categories[i].id;
        values[at++] = info->categories[i].is_thing;
    }
    array = ints_of(env, values, n);
    free(values);
    return array;
}

NATIVE(jlong, inputBytes)(JNIEnv *env, jclass self, jlong model) {
    (void)env, (void)self;
    return (jlong)panokit_input_bytes(pointer(model));
}

/* ---- session ---- */

NATIVE(jlong, openSession)(JNIEnv *env, jclass self, jlong model, jint side, jboolean matte,
                           jboolean explain) {
    panokit_options options;
    panokit_session *session = NULL;
    panokit_error error;
    (void)self;
    options.max_photo_side = side;
    options.matte = matte;
    options.explain = explain;
    if (panokit_session_open(pointer(model), &options, &session, &error)) raise(env, &error);
    return (jlong)(intptr_t)session;
}

NATIVE(void, closeSession)(JNIEnv *env, jclass self, jlong session) {
    (void)env, (void)self;
    panokit_session_close(pointer(session));
}

/* A plane's first byte, if rows of `row` bytes fit into the buffer from `offset` on. */
static const uint8_t *plane(JNIEnv *env, jobject buffer, jlong offset, jlong rows, jlong stride, jlong row) {
    const uint8_t *data = buffer ? (*env)->GetDirectBufferAddress(env, buffer) : NULL;
    jlong capacity = data ? (*env)->GetDirectBufferCapacity(env, buffer) : 0;
    jlong reach = (rows - 1) * stride, first = stride < 0 ? offset + reach : offset;
    jlong last = (stride < 0 ? offset : offset + reach) + row;
    if (!data) {
        refuse(env, PANOKIT_BAD_IMAGE, "a plane is null, or no direct ByteBuffer");
    } else if (rows < 1 || row < 1 || first < 0 || last > capacity) {
        char said[160];
        snprintf(said, sizeof said, "a plane needs bytes %lld to %lld of its buffer, which has %lld",
                 (long long)first, (long long)last, (long long)capacity);
        refuse(env, PANOKIT_BAD_IMAGE, said);
    } else {
        return data + offset;
    }
    return NULL;
}

/* `n`: format, width, height, orientation, row stride, chroma row stride, chroma step, full range,
 * matrix, offsets of the three planes. */
static int make_image(JNIEnv *env, jintArray numbers, jobject data, jobject u, jobject v,
                      panokit_image *image) {
    static const jlong sizes[] = {3, 4, 4, 4, 4, 1};
    jint n[12];
    (*env)->GetIntArrayRegion(env, numbers, 0, 12, n);
    memset(image, 0, sizeof *image);
    image->format = (panokit_pixel_format)n[0];
    image->width = n[1], image->height = n[2], image->orientation = n[3];
    image->row_stride = n[4];
    if (n[0] < 0 || n[0] > PANOKIT_YUV420) {
        refuse(env, PANOKIT_BAD_IMAGE, "the pixel format is not known");
        return 0;
    }
    image->data = plane(env, data, n[9], n[2], n[4], n[1] * sizes[n[0]]);
    if (!image->data) return 0;
    if (n[0] == PANOKIT_YUV420) {
        jlong rows = ((jlong)n[2] + 1) / 2, row = (((jlong)n[1] + 1) / 2 - 1) * n[6] + 1;
        image->chroma_row_stride = n[5], image->chroma_step = n[6];
        image->full_range = n[7], image->matrix = (panokit_yuv_matrix)n[8];
        image->u = plane(env, u, n[10], rows, n[5], row);
        if (!image->u) return 0;
        image->v = plane(env, v, n[11], rows, n[5], row);
        if (!image->v) return 0;
    }
    return 1;
}

NATIVE(void, preprocess)(JNIEnv *env, jclass self, jlong session, jintArray numbers, jobject data,
                         jobject u, jobject v) {
    panokit_image image;
    panokit_error error;
    (void)self;
    if (!make_image(env, numbers, data, u, v, &image)) return;
    if (panokit_preprocess(pointer(session), &image, &error)) raise(env, &error);
}

NATIVE(void, setPhoto)(JNIEnv *env, jclass self, jlong session, jint width, jint height) {
    panokit_error error;
    (void)self;
    if (panokit_set_photo(pointer(session), width, height, &error)) raise(env, &error);
}

NATIVE(jintArray, transform)(JNIEnv *env, jclass self, jlong session) {
    const panokit_transform *t = panokit_session_transform(pointer(session));
    (void)self;
    return t ? ints_of(env, &t->photo_width, 8) : ints_of(env, NULL, 0);
}

NATIVE(void, input)(JNIEnv *env, jclass self, jlong session, jobject out) {
    panokit_error error;
    void *data = (*env)->GetDirectBufferAddress(env, out);
    jlong capacity = data ? (*env)->GetDirectBufferCapacity(env, out) : 0;
    (void)self;
    if (!data) {
        refuse(env, PANOKIT_BAD_ARGUMENT, "the tensor is no direct ByteBuffer");
    } else if (panokit_input(pointer(session), data, (size_t)capacity, &error)) {
        raise(env, &error);
    }
}

NATIVE(jbyteArray, inputRgb)(JNIEnv *env, jclass self, jlong session) {
    const uint8_t *rgb = panokit_input_rgb(pointer(session));
    const panokit_transform *t = panokit_session_transform(pointer(session));
    jsize n = rgb ? 3 * t->input_width * t->input_height : 0;
    jbyteArray array = (*env)->NewByteArray(env, n);
    (void)self;
    if (array && n) (*env)->SetByteArrayRegion(env, array, 0, n, (const jbyte *)rgb);
    return array;
}

/* `numbers`: of every head its type, and the strides of rows, columns and channels. */
static int make_heads(JNIEnv *env, jobjectArray buffers, jintArray numbers, panokit_tensor heads[3]) {
    jint n[12], i;
    (*env)->GetIntArrayRegion(env, numbers, 0, 12, n);
    memset(heads, 0, 3 * sizeof *heads);
    for (i = 0; i < 3; i++) {
        jobject buffer = (*env)->GetObjectArrayElement(env, buffers, i);
        heads[i].data = buffer ? (*env)->GetDirectBufferAddress(env, buffer) : NULL;
        if (!heads[i].data) {
            refuse(env, PANOKIT_BAD_ARGUMENT, "a head is null, or no direct ByteBuffer");
            return 0;
        }
        heads[i].bytes = (size_t)(*env)->GetDirectBufferCapacity(env, buffer);
        heads[i].dtype = (panokit_dtype)n[4 * i];
        heads[i].row_stride = n[4 * i + 1];
        heads[i].column_stride = n[4 * i + 2];
        heads[i].channel_stride = n[4 * i + 3];
    }
    return 1;
}

NATIVE(void, decode)(JNIEnv *env, jclass self, jlong session, jobjectArray buffers, jintArray numbers) {
    panokit_tensor heads[3];
    panokit_error error;
    (void)self;
    if (!make_heads(env, buffers, numbers, heads)) return;
    if (panokit_decode(pointer(session), heads, &error)) raise(env, &error);
}

enum { PER_SEGMENT = 12 };

NATIVE(jdoubleArray, segments)(JNIEnv *env, jclass self, jlong session) {
    int32_t count, i;
    const panokit_segment *s = panokit_segments(pointer(session), &count);
    jdoubleArray array = (*env)->NewDoubleArray(env, count * PER_SEGMENT);
    (void)self;
    for (i = 0; array && i < count; i++, s++) {
        jdouble v[PER_SEGMENT];
        v[0] = s->id, v[1] = s->channel, v[2] = s->is_thing, v[3] = s->score, v[4] = s->area;
        v[5] = (jdouble)s->center_y, v[6] = (jdouble)s->center_x, v[7] = (jdouble)s->photo_area;
        v[8] = s->box[0], v[9] = s->box[1], v[10] = s->box[2], v[11] = s->box[3];
        (*env)->SetDoubleArrayRegion(env, array, i * PER_SEGMENT, PER_SEGMENT, v);
    }
    return array;
}

NATIVE(jintArray, ids)(JNIEnv *env, jclass self, jlong session, jint count) {
    const int32_t *ids = panokit_ids(pointer(session));
    (void)self;
    return ints_of(env, ids, ids ? (size_t)count : 0);
}

NATIVE(jintArray, photoIds)(JNIEnv *env, jclass self, jlong session) {
    const panokit_transform *t = panokit_session_transform(pointer(session));
    panokit_error error;
    jintArray array = t ? (*env)->NewIntArray(env, t->photo_width * t->photo_height) : NULL;
    jint *ids;
    (void)self;
    if (!array) return NULL;
    ids = (*env)->GetPrimitiveArrayCritical(env, array, NULL);
    if (!ids) return NULL;
    error.status = panokit_photo_ids(pointer(session), ids, 4, 4 * (size_t)t->photo_width, &error);
    (*env)->ReleasePrimitiveArrayCritical(env, array, ids, 0);
    if (error.status) raise(env, &error);
    return array;
}

NATIVE(jint, idAt)(JNIEnv *env, jclass self, jlong session, jint x, jint y) {
    (void)env, (void)self;
    return panokit_id_at(pointer(session), x, y);
}

NATIVE(jbyteArray, rle)(JNIEnv *env, jclass self, jlong session, jint id) {
    size_t needed;
    panokit_error error;
    char *text;
    jbyteArray array = NULL;
    (void)self;
    if (panokit_rle(pointer(session), id, NULL, 0, &needed, &error)) {
        raise(env, &error);
        return NULL;
    }
    text = malloc(needed);
    if (!text) {
        refuse(env, PANOKIT_NO_MEMORY, "not enough memory for run lengths");
    } else if (panokit_rle(pointer(session), id, text, needed, &needed, &error)) {
        raise(env, &error);
    } else {
        array = bytes_of(env, text);
    }
    free(text);
    return array;
}

NATIVE(jintArray, portrait)(JNIEnv *env, jclass self, jlong session) {
    int32_t needed = 0, *ids;
    panokit_error error;
    jintArray array = NULL;
    (void)self;
    if (panokit_portrait(pointer(session), NULL, 0, &needed, &error)) {
        raise(env, &error);
        return NULL;
    }
    ids = malloc(sizeof *ids * (size_t)(needed + 1));
    if (!ids) {
        refuse(env, PANOKIT_NO_MEMORY, "not enough memory for ids");
        return NULL;
    }
    panokit_portrait(pointer(session), ids, needed, &needed, &error);
    array = ints_of(env, ids, (size_t)needed);
    free(ids);
    return array;
}

NATIVE(jfloatArray, matte)(JNIEnv *env, jclass self, jlong session, jintArray numbers, jobject data,
                           jobject u, jobject v, jintArray ids) {
    const panokit_transform *t = panokit_session_transform(pointer(session));
    panokit_image image;
    panokit_error error;
    jfloatArray array;
    jsize count = (*env)->GetArrayLength(env, ids);
    jint *wanted;
    jfloat *alpha;
    (void)self;
    if (!t) {
        refuse(env, PANOKIT_BAD_ARGUMENT, "there is no result yet");
        return NULL;
    }
    if (!make_image(env, numbers, data, u, v, &image)) return NULL;
    array = (*env)->NewFloatArray(env, t->photo_width * t->photo_height);
    if (!array) return NULL;
    wanted = (*env)->GetIntArrayElements(env, ids, NULL);
    alpha = wanted ? (*env)->GetFloatArrayElements(env, array, NULL) : NULL;
    if (!alpha) return NULL;
    error.status = panokit_matte(pointer(session), &image, (const int32_t *)wanted, count, alpha,
                                 (size_t)t->photo_width, &error);
    (*env)->ReleaseFloatArrayElements(env, array, alpha, 0);
    (*env)->ReleaseIntArrayElements(env, ids, wanted, JNI_ABORT);
    if (error.status) raise(env, &error);
    return array;
}

/* 0-2 real heads, 3 resized logits, 4 resized offsets, 5 scores, 6 centre scores: `count` floats. */
NATIVE(jfloatArray, explainFloats)(JNIEnv *env, jclass self, jlong session, jint which, jint count) {
    panokit_explanation e;
    const float *values[7];
    (void)self;
    if (panokit_explain(pointer(session), &e) || which < 0 || which > 6) return floats_of(env, NULL, 0);
    values[0] = e.real[0], values[1] = e.real[1], values[2] = e.real[2], values[3] = e.semantic;
    values[4] = e.offset, values[5] = e.scores, values[6] = e.center_scores;
    if (which == 6) count = e.center_count;
    return floats_of(env, values[which], values[which] ? (size_t)count : 0);
}

/* 0 class map, 1 votes, 2 centres (row, column). */
NATIVE(jintArray, explainInts)(JNIEnv *env, jclass self, jlong session, jint which, jint count) {
    panokit_explanation e;
    const int32_t *values;
    (void)self;
    if (panokit_explain(pointer(session), &e)) return ints_of(env, NULL, 0);
    values = which == 0 ? e.class_map : which == 1 ? e.votes : e.centers;
    if (which == 2) count = 2 * e.center_count;
    return ints_of(env, values, values ? (size_t)count : 0);
}

/* ---- dump ---- */

static int write_piece(void *file, const void *bytes, size_t count) {
    return fwrite(bytes, 1, count, file) != count;
}

/* Heads as in decode(), dense, or no buffers at all; texts are key, value, key, value … */
NATIVE(void, dump)(JNIEnv *env, jclass self, jlong session, jbyteArray path, jobjectArray buffers,
                   jintArray numbers, jobjectArray texts) {
    panokit_dump dump;
    panokit_error error;
    panokit_tensor heads[3];
    char *name = text_of(env, path), *kept[2 * PANOKIT_DUMP_TEXTS];
    jsize n = (*env)->GetArrayLength(env, texts), i, made = 0;
    FILE *file = NULL;
    int failed = name == NULL;
    (void)self;
    error.status = PANOKIT_OK;
    panokit_dump_init(&dump, pointer(session));
    if (!failed && buffers) failed = !make_heads(env, buffers, numbers, heads);
    if (!failed && n > 2 * PANOKIT_DUMP_TEXTS) {
        refuse(env, PANOKIT_TOO_LARGE, "a dump has too many texts");
        failed = 1;
    }
    for (i = 0; !failed && i < n; i++) {
        kept[made] = text_of(env, (jbyteArray)(*env)->GetObjectArrayElement(env, texts, i));
        failed = kept[made] == NULL;
        made += !failed;
    }
    if (!failed) {
        panokit_status status = panokit_dump_result(&dump, &error);
        for (i = 0; !status && buffers && i < 3; i++)
            status = panokit_dump_head(&dump, (panokit_head)i, heads[i].dtype, heads[i].data,
                                       heads[i].bytes, &error);
        for (i = 0; !status && i + 1 < n; i += 2)
            status = panokit_dump_text(&dump, kept[i], kept[i + 1], &error);
        if (!status) {
            file = fopen(name, "wb");
            if (!file) {
                refuse(env, PANOKIT_WRITE_FAILED, "the dump's file cannot be opened");
            } else {
                status = panokit_dump_write(&dump, write_piece, file, &error);
                if (fclose(file) && !status) refuse(env, PANOKIT_WRITE_FAILED, "the dump could not be written");
            }
        }
        if (status) raise(env, &error);
    }
    while (made) free(kept[--made]);
    free(name);
}
