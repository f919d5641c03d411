/* Numbers from the fuzzer's bytes. */
#ifndef PANOKIT_TAKE_H
#define PANOKIT_TAKE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct input {
    const uint8_t *at;
    size_t left;
} input;

static inline uint32_t take_bytes(input *in, int n) {
    uint32_t value = 0;
    while (n-- && in->left) {
        value = value << 8 | *in->at++;
        in->left--;
    }
    return value;
}

static inline int32_t take_between(input *in, int32_t low, int32_t high) {
    return low + (int32_t)(take_bytes(in, 2) % (uint32_t)(high - low + 1));
}

/* A buffer of its own of exactly n bytes, so that every byte beyond is noticed. */
static inline uint8_t *take_buffer(input *in, size_t n) {
    uint8_t *buffer = malloc(n ? n : 1);
    size_t i;
    if (!buffer) abort();
    for (i = 0; i < n; i++) buffer[i] = in->left ? in->at[i % in->left] : 0;
    return buffer;
}

#endif
