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
static inline f4 f4_div(f4 a, f4 b) { return a / b; }
static inline i4 f4_more(f4 a, f4 b) { return (i4)(a > b); } /* all bits where true */
static inline i4 f4_most(f4 a, f4 b) { return (i4)(a >= b); }
static inline f4 f4_pick(i4 mask, f4 yes, f4 no) { return (f4)(((i4)yes & mask) | ((i4)no & ~mask)); }
static inline i4 i4_pick(i4 mask, i4 yes, i4 no) { return (yes & mask) | (no & ~mask); }
/* Adding 1.5·2^23 leaves the nearest whole number in the last bits. */
static inline f4 f4_round(f4 x) { return (x + f4_all(12582912.0f)) - f4_all(12582912.0f); }
static inline f4 f4_scale2(f4 p, f4 x) { return (f4)((i4)p + ((i4)(x + f4_all(12582912.0f)) << 23)); }
static inline f4 f4_keep(i4 mask, f4 v) { return (f4)((i4)v & mask); } /* 0 elsewhere */
static inline i4 i4_and(i4 a, i4 b) { return a & b; }
#if defined(__clang__) || __GNUC__ >= 12
#define PK_SHUFFLE(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define PK_SHUFFLE(a, b, i, j, k, l) __builtin_shuffle(a, b, (i4){i, j, k, l})
#endif
/* The sums of four vectors' lanes. */
static inline f4 f4_sums(const f4 *v) {
    f4 ab = PK_SHUFFLE(v[0], v[1], 0, 4, 1, 5) + PK_SHUFFLE(v[0], v[1], 2, 6, 3, 7);
    f4 cd = PK_SHUFFLE(v[2], v[3], 0, 4, 1, 5) + PK_SHUFFLE(v[2], v[3], 2, 6, 3, 7);
    return PK_SHUFFLE(ab, cd, 0, 1, 4, 5) + PK_SHUFFLE(ab, cd, 2, 3, 6, 7);
}

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
static inline f4 f4_div(f4 a, f4 b) { PK_EACH(f4, a.v[i] / b.v[i]); }
static inline i4 f4_more(f4 a, f4 b) { PK_EACH(i4, -(a.v[i] > b.v[i])); }
static inline i4 f4_most(f4 a, f4 b) { PK_EACH(i4, -(a.v[i] >= b.v[i])); }
static inline f4 f4_pick(i4 m, f4 a, f4 b) { PK_EACH(f4, m.v[i] ? a.v[i] : b.v[i]); }
static inline i4 i4_pick(i4 m, i4 a, i4 b) { PK_EACH(i4, m.v[i] ? a.v[i] : b.v[i]); }
static inline f4 f4_round(f4 x) { /* what is out of range gives anything */
    PK_EACH(f4, !(x.v[i] > -200 && x.v[i] < 200) ? 0
                : (float)(int32_t)(x.v[i] + (x.v[i] < 0 ? -0.5f : 0.5f)));
}
static inline f4 f4_scale2(f4 p, f4 x) {
    f4 n = f4_round(x);
    int i;
    for (i = 0; i < 4; i++) {
        uint32_t bits = (uint32_t)((int32_t)n.v[i] + 127) << 23;
        float power;
        memcpy(&power, &bits, sizeof power);
        p.v[i] *= power;
    }
    return p;
}
static inline f4 f4_keep(i4 m, f4 a) { PK_EACH(f4, m.v[i] ? a.v[i] : 0.0f); }
static inline i4 i4_and(i4 a, i4 b) { PK_EACH(i4, a.v[i] & b.v[i]); }
static inline f4 f4_sums(const f4 *v) {
    PK_EACH(f4, (v[i].v[0] + v[i].v[1]) + (v[i].v[2] + v[i].v[3]));
}

#endif

/* All bits in the first `n` lanes. */
static inline i4 i4_first(int32_t n) {
    int32_t lane[4];
    i4 v;
    lane[0] = -(n > 0), lane[1] = -(n > 1), lane[2] = -(n > 2), lane[3] = -(n > 3);
    memcpy(&v, lane, sizeof v);
    return v;
}

static inline f4 f4_max(f4 a, f4 b) { return f4_pick(f4_more(a, b), a, b); }
static inline f4 f4_min(f4 a, f4 b) { return f4_pick(f4_more(b, a), a, b); }
static inline f4 f4_mix(f4 a, f4 b, f4 f) { return f4_add(a, f4_mul(f4_sub(b, a), f)); }
static inline void f4_store(float *p, f4 v) { memcpy(p, &v, sizeof v); }
static inline void i4_store(int32_t *p, i4 v) { memcpy(p, &v, sizeof v); }

static inline int i4_any(i4 mask) {
    uint64_t half[2];
    memcpy(half, &mask, sizeof half);
    return (half[0] | half[1]) != 0;
}

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

/* 2^x to about one part in 10^7 for -126 < x < 127, anything elsewhere: scores only, never a
 * decision. The polynomial has the least relative error on -1/2..1/2. */
static inline f4 f4_exp2(f4 x) {
    f4 rounded = f4_round(x), r = f4_sub(x, rounded), p = f4_all(0.001326472392f);
    p = f4_add(f4_mul(p, r), f4_all(0.009671512874f));
    p = f4_add(f4_mul(p, r), f4_all(0.05550733754f));
    p = f4_add(f4_mul(p, r), f4_all(0.2402224208f));
    p = f4_add(f4_mul(p, r), f4_all(0.6931469776f));
    p = f4_add(f4_mul(p, r), f4_all(1.0f));
    return f4_scale2(p, x);
}

#define PK_LOG2E 1.44269504f

/* e^x for x < 87; below -87 about e^-87. */
static inline f4 f4_exp(f4 x) {
    return f4_exp2(f4_min(f4_max(f4_mul(x, f4_all(PK_LOG2E)), f4_all(-125.5f)), f4_all(125.5f)));
}

#endif
