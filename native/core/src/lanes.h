/* Four floats at a time: vectors of the compiler where they keep every rounding and subnormal
 * number, plain loops elsewhere (32-bit ARM's vectors flush subnormals to zero). */
#ifndef PANOKIT_LANES_H
#define PANOKIT_LANES_H

#include <string.h>

#include "internal.h"

#if defined(__GNUC__) && !(defined(__arm__) && !defined(__aarch64__)) && !defined(PANOKIT_PLAIN)

typedef float f4 __attribute__((vector_size(16)));
typedef int32_t i4 __attribute__((vector_size(16)));

static inline f4 f4_all(float x) { return (f4){x, x, x, x}; }
static inline i4 i4_all(int32_t x) { return (i4){x, x, x, x}; }
static inline f4 f4_load(const float *p) { f4 v; memcpy(&v, p, sizeof v); return v; }
static inline f4 f4_add(f4 a, f4 b) { return a + b; }
static inline f4 f4_sub(f4 a, f4 b) { return a - b; }
static inline f4 f4_mul(f4 a, f4 b) { return a * b; }
static inline i4 f4_more(f4 a, f4 b) { return (i4)(a > b); } /* all bits where true */
static inline f4 f4_pick(i4 mask, f4 yes, f4 no) { return (f4)(((i4)yes & mask) | ((i4)no & ~mask)); }
static inline i4 i4_pick(i4 mask, i4 yes, i4 no) { return (yes & mask) | (no & ~mask); }
static inline f4 f4_power2(i4 n) { return (f4)((n + 127) << 23); }
static inline i4 f4_whole(f4 x) { /* nearest, for |x| < 2^22 */
    return (i4)(x + f4_all(12582912.0f)) - i4_all(0x4b400000);
}
static inline f4 f4_of(i4 n) { return (f4)(n + i4_all(0x4b400000)) - f4_all(12582912.0f); }

#else

typedef struct f4 { float v[4]; } f4;
typedef struct i4 { int32_t v[4]; } i4;
#define PK_EACH(type, expression) \
    type r; int i; for (i = 0; i < 4; i++) r.v[i] = (expression); return r
static inline f4 f4_all(float x) { PK_EACH(f4, x); }
static inline i4 i4_all(int32_t x) { PK_EACH(i4, x); }
static inline f4 f4_load(const float *p) { PK_EACH(f4, p[i]); }
static inline f4 f4_add(f4 a, f4 b) { PK_EACH(f4, a.v[i] + b.v[i]); }
static inline f4 f4_sub(f4 a, f4 b) { PK_EACH(f4, a.v[i] - b.v[i]); }
static inline f4 f4_mul(f4 a, f4 b) { PK_EACH(f4, a.v[i] * b.v[i]); }
static inline i4 f4_more(f4 a, f4 b) { PK_EACH(i4, -(a.v[i] > b.v[i])); }
static inline f4 f4_pick(i4 m, f4 a, f4 b) { PK_EACH(f4, m.v[i] ? a.v[i] : b.v[i]); }
static inline i4 i4_pick(i4 m, i4 a, i4 b) { PK_EACH(i4, m.v[i] ? a.v[i] : b.v[i]); }
static inline f4 f4_power2(i4 n) {
    f4 r;
    int i;
    for (i = 0; i < 4; i++) {
        uint32_t bits = (uint32_t)(n.v[i] + 127) << 23;
        memcpy(&r.v[i], &bits, sizeof bits);
    }
    return r;
}
static inline i4 f4_whole(f4 x) { PK_EACH(i4, (int32_t)(x.v[i] + (x.v[i] < 0 ? -0.5f : 0.5f))); }
static inline f4 f4_of(i4 n) { PK_EACH(f4, (float)n.v[i]); }

#endif

static inline f4 f4_max(f4 a, f4 b) { return f4_pick(f4_more(a, b), a, b); }
static inline f4 f4_min(f4 a, f4 b) { return f4_pick(f4_more(b, a), a, b); }
static inline f4 f4_mix(f4 a, f4 b, f4 f) { return f4_add(a, f4_mul(f4_sub(b, a), f)); }
static inline void f4_store(float *p, f4 v) { memcpy(p, &v, sizeof v); }
static inline void i4_store(int32_t *p, i4 v) { memcpy(p, &v, sizeof v); }

static inline float f4_highest(f4 v) {
    float p[4];
    f4_store(p, v);
    p[0] = p[0] > p[1] ? p[0] : p[1];
    p[2] = p[2] > p[3] ? p[2] : p[3];
    return p[0] > p[2] ? p[0] : p[2];
}

static inline float f4_lowest(f4 v) {
    float p[4];
    f4_store(p, v);
    p[0] = p[0] < p[1] ? p[0] : p[1];
    p[2] = p[2] < p[3] ? p[2] : p[3];
    return p[0] < p[2] ? p[0] : p[2];
}

/* e^x to about 3 parts in 10^7, x held within -87 and 88: scores only, never a decision. */
static inline f4 f4_exp(f4 x) {
    i4 n;
    f4 r, p;
    x = f4_min(f4_max(x, f4_all(-87.0f)), f4_all(88.0f));
    n = f4_whole(f4_mul(x, f4_all(1.44269504f)));
    r = f4_sub(f4_sub(x, f4_mul(f4_of(n), f4_all(0.693359375f))),
               f4_mul(f4_of(n), f4_all(-2.12194440e-4f)));
    p = f4_all(1.0f / 720);
    p = f4_add(f4_mul(p, r), f4_all(1.0f / 120));
    p = f4_add(f4_mul(p, r), f4_all(1.0f / 24));
    p = f4_add(f4_mul(p, r), f4_all(1.0f / 6));
    p = f4_add(f4_mul(p, r), f4_all(0.5f));
    p = f4_add(f4_mul(p, r), f4_all(1.0f));
    p = f4_add(f4_mul(p, r), f4_all(1.0f));
    return f4_mul(p, f4_power2(n));
}

#endif
