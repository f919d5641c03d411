/* Numbers without the platform's library, so that every machine has the same bits. */
#include <string.h>

#include "internal.h"

/* e^x in double, within an ulp or two: x = k·ln 2 + r, a polynomial for r, the exponent for k. */
double pk_exp(double x) {
    static const double c[] = {
        1.0, 1.0, 0.5, 1.0 / 6, 1.0 / 24, 1.0 / 120, 1.0 / 720, 1.0 / 5040, 1.0 / 40320,
        1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800, 1.0 / 479001600, 1.0 / 6227020800.0};
    double k, r, sum;
    uint64_t bits;
    int i;
    if (x > 709.0) x = 709.0;
    if (x < -708.0) return 0.0;
    k = x * 1.4426950408889634074 + (x < 0 ? -0.5 : 0.5);
    k = (double)(int32_t)k;
    r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10;
    sum = c[13];
    for (i = 12; i >= 0; i--) sum = sum * r + c[i];
    bits = (uint64_t)((int64_t)k + 1023) << 52;
    memcpy(&k, &bits, sizeof k);
    return sum * k;
}

float pk_sigmoid(float x) {
    return (float)(1.0 / (1.0 + pk_exp(-(double)x)));
}

float pk_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, part = h & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 0) { /* subnormal: part·2^-24, exact */
        value = (float)part * (1.0f / 16777216.0f);
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112u) << 23) | part << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Rounded to even; magnitudes below 2^-14 (none of ours but 0) become 0. */
uint16_t pk_to_half(float value) {
    uint32_t bits, sign, half;
    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits < 0x38800000u) return (uint16_t)sign;
    bits += 0xfffu + (bits >> 13 & 1u);
    half = (bits >> 13) - (112u << 10);
    return (uint16_t)(sign | (half > 0x7c00u ? 0x7c00u : half));
}

int pk_is_unfused(void) {
    /* (1 + 2^-12)² = 1 + 2^-11 + 2^-24: rounded to float the last term is lost, fused it stays. */
    volatile float factor = 1.000244140625f, minus = -1.00048828125f;
    float a[4], b[4];
    int i, unfused = 1;
    for (i = 0; i < 4; i++) {
        a[i] = factor;
        b[i] = minus;
    }
    for (i = 0; i < 4; i++) b[i] = a[i] * a[i] + b[i];
    for (i = 0; i < 4; i++) unfused &= b[i] == 0.0f;
    return unfused;
}

/* ---- decimal numbers, rounded once: whole numbers of up to LIMBS·32 bits ---- */

enum { LIMBS = 44, DIGITS = 40 };
typedef struct whole {
    uint32_t limb[LIMBS];
    int used;
} whole;

static void multiply_add(whole *n, uint32_t factor, uint32_t plus) {
    uint64_t carry = plus;
    int i;
    for (i = 0; i < n->used || carry; i++) {
        if (i >= LIMBS) return; /* cannot happen within the limits below */
        if (i >= n->used) n->limb[i] = 0, n->used = i + 1;
        carry += (uint64_t)n->limb[i] * factor;
        n->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static int bit_length(const whole *n) {
    int bits = 32 * (n->used - 1);
    uint32_t top = n->used ? n->limb[n->used - 1] : 0;
    while (top) bits++, top >>= 1;
    return n->used ? bits : 0;
}

static int compare(const whole *a, const whole *b) {
    int i;
    if (a->used != b->used) return a->used < b->used ? -1 : 1;
    for (i = a->used - 1; i >= 0; i--)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

static void shift_left(whole *n, int bits) {
    for (; bits >= 31; bits -= 31) multiply_add(n, 1u << 31, 0);
    multiply_add(n, 1u << bits, 0);
}

static void subtract(whole *a, const whole *b) { /* a >= b */
    int64_t borrow = 0;
    int i;
    for (i = 0; i < a->used; i++) {
        int64_t d = (int64_t)a->limb[i] - (i < b->used ? b->limb[i] : 0) + borrow;
        a->limb[i] = (uint32_t)d;
        borrow = d < 0 ? -1 : 0;
    }
    while (a->used && !a->limb[a->used - 1]) a->used--;
}

/* quotient·2^exponent with a sticky rest, to the nearest double, halves to even. */
static double rounded(uint64_t quotient, int sticky, int exponent) {
    int extra = 0;
    uint64_t part;
    double value;
    while (quotient >> extra > ((uint64_t)1 << 53) - 1) extra++;
    if (extra) {
        uint64_t rest = quotient & (((uint64_t)1 << extra) - 1), half = (uint64_t)1 << (extra - 1);
        part = quotient >> extra;
        if (rest > half || (rest == half && (sticky || (part & 1)))) part++;
    } else {
        part = quotient;
    }
    value = (double)part;
    for (exponent += extra; exponent > 0; exponent--) value *= 2;
    for (; exponent < 0; exponent++) value /= 2;
    return value;
}

double pk_decimal(const char *digits, size_t count, int exponent10) {
    whole top, bottom;
    uint64_t quotient = 0;
    size_t i;
    int shift, bit, sticky = 0;
    memset(&top, 0, sizeof top);
    memset(&bottom, 0, sizeof bottom);
    while (count && *digits == '0') digits++, count--;
    if (!count) return 0.0;
    for (i = 0; i < count && i < DIGITS; i++) multiply_add(&top, 10, (uint32_t)(digits[i] - '0'));
    for (; i < count; i++) {
        exponent10++;
        sticky |= digits[i] != '0';
    }
    if (exponent10 + (int)i > 308) return 1e308 * 10; /* infinity: the caller refuses it */
    if (exponent10 < -300) return 0.0;
    for (; exponent10 > 0; exponent10--) multiply_add(&top, 10, 0);
    multiply_add(&bottom, 1, 1);
    for (; exponent10 < 0; exponent10++) multiply_add(&bottom, 10, 0);
    /* Long division, bit by bit, to a quotient of 61 to 63 bits. */
    shift = bit_length(&bottom) - bit_length(&top) + 62;
    if (shift >= 0) {
        shift_left(&top, shift);
    } else {
        shift_left(&bottom, -shift);
    }
    /* top / bottom lies between 2^61 and 2^63 */
    shift_left(&bottom, 62);
    for (bit = 62; bit >= 0; bit--) {
        quotient <<= 1;
        if (compare(&top, &bottom) >= 0) {
            subtract(&top, &bottom);
            quotient |= 1;
        }
        /* Twice the rest instead of half the divisor. */
        if (bit) multiply_add(&top, 2, 0);
    }
    sticky |= top.used != 0;
    return rounded(quotient, sticky, -shift);
}
