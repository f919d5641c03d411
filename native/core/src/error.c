#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *const pk_head_names[3] = {"semantic", "center", "offset"};

void pk_clear(panokit_error *error) {
    if (!error) return;
    memset(error, 0, sizeof *error);
    error->head = -1;
}

panokit_status pk_fail(panokit_error *error, panokit_status status, const char *format, ...) {
    if (error) {
        va_list arguments;
        pk_clear(error);
        error->status = status;
        va_start(arguments, format);
        vsnprintf(error->message, sizeof error->message, format, arguments);
        va_end(arguments);
    }
    return status;
}

panokit_status pk_fail_head(panokit_error *error, panokit_head head, const int32_t *position,
                            const char *format, ...) {
    if (error) {
        va_list arguments;
        int used;
        pk_clear(error);
        error->status = PANOKIT_BAD_HEAD;
        error->head = (int)head;
        if (position) {
            error->has_position = 1;
            memcpy(error->position, position, sizeof error->position);
        }
        used = snprintf(error->message, sizeof error->message, "head '%s': ", pk_head_names[head]);
        va_start(arguments, format);
        vsnprintf(error->message + used, sizeof error->message - (size_t)used, format, arguments);
        va_end(arguments);
    }
    return PANOKIT_BAD_HEAD;
}
