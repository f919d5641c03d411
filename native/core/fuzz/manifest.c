/* Any bytes as a manifest: it is refused in words, or a session opens. */
#include "internal.h"
#include "take.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    panokit_model *model = NULL;
    panokit_session *session = NULL;
    panokit_error error;
    panokit_options options = {64, 0, 0};
    char *text = malloc(size ? size : 1); /* no zero byte behind it */
    if (!text) return 0;
    memcpy(text, data, size);
    if (panokit_open(text, size, size % 2 ? NULL : "tflite-int8", &model, &error)) {
        if (model || error.status == PANOKIT_OK || !error.message[0]) abort();
    } else {
        const panokit_info *info = panokit_model_info(model);
        /* Sizes of megabytes would only slow the search down. */
        if ((int64_t)info->grid_width * info->grid_height < 1 << 14 &&
            (int64_t)info->heads[0].width * info->heads[0].height * info->category_count < 1 << 16 &&
            panokit_session_open(model, &options, &session, &error) == PANOKIT_OK) {
            if (panokit_set_photo(session, 40, 30, &error) != PANOKIT_OK) abort();
            if (!panokit_session_bytes(session)) abort();
        }
    }
    panokit_session_close(session);
    panokit_close(model);
    free(text);
    return 0;
}
