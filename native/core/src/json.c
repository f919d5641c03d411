/* A small JSON reader: one pass checks the document (RFC 8259, at most 64 levels deep), then values
 * are found by walking the checked text. Nothing is allocated. */
#include <limits.h>
#include <string.h>

#include "internal.h"

enum { DEPTH = 64 };

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\r' || *c->at == '\t'))
        c->at++;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Bytes of the UTF-8 character at `p`, 0 if it is none. */
static int utf8_length(const unsigned char *p, size_t room) {
    int n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    int i;
    if (n == 0 || (size_t)n > room) return 0;
    for (i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f)) return 0;
    if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f)) return 0;
    return n;
}

int pk_is_utf8(const char *text) {
    size_t left = strlen(text);
    while (left) {
        int n = utf8_length((const unsigned char *)text, left);
        if (!n) return 0;
        text += n;
        left -= (size_t)n;
    }
    return 1;
}

static int check_string(cursor *c) {
    if (c->at >= c->end || *c->at != '"') return 0;
    c->at++;
    while (c->at < c->end && *c->at != '"') {
        if ((unsigned char)*c->at < 0x20) return 0;
        if (*c->at == '\\') {
            if (++c->at >= c->end) return 0;
            if (*c->at == 'u') {
                int i;
                for (i = 1; i <= 4; i++)
                    if (c->end - c->at <= i || hex_digit(c->at[i]) < 0) return 0;
                c->at += 5;
            } else if (memchr("\"\\/bfnrt", *c->at, 8)) {
                c->at++;
            } else {
                return 0;
            }
        } else {
            int n = utf8_length((const unsigned char *)c->at, (size_t)(c->end - c->at));
            if (!n) return 0;
            c->at += n;
        }
    }
    if (c->at >= c->end) return 0;
    c->at++;
    return 1;
}

static int digits(cursor *c) {
    const char *start = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9') c->at++;
    return c->at > start;
}

static int check_number(cursor *c) {
    const char *start;
    if (c->at < c->end && *c->at == '-') c->at++;
    start = c->at;
    if (!digits(c) || (*start == '0' && c->at - start > 1)) return 0;
    if (c->at < c->end && *c->at == '.') {
        c->at++;
        if (!digits(c)) return 0;
    }
    if (c->at < c->end && (*c->at == 'e' || *c->at == 'E')) {
        c->at++;
        if (c->at < c->end && (*c->at == '+' || *c->at == '-')) c->at++;
        if (!digits(c)) return 0;
    }
    return 1;
}

static int check_word(cursor *c, const char *word) {
    size_t n = strlen(word);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n) != 0) return 0;
    c->at += n;
    return 1;
}

/* One value; a stack of open brackets instead of recursion. */
static int check_value(cursor *c) {
    char open[DEPTH];
    int depth = 0, wants_value = 1;
    for (;;) {
        skip_space(c);
        if (c->at >= c->end) return 0;
        if (wants_value) {
            char kind = *c->at;
            if (kind == '{' || kind == '[') {
                if (depth == DEPTH) return 0;
                open[depth++] = kind;
                c->at++;
                skip_space(c);
                if (c->at < c->end && *c->at == (kind == '{' ? '}' : ']')) {
                    wants_value = 0;
                } else if (kind == '{') {
                    goto name;
                }
                continue;
            }
            if (kind == '"') {
                if (!check_string(c)) return 0;
            } else if (kind == 't' || kind == 'f' || kind == 'n') {
                if (!check_word(c, kind == 't' ? "true" : kind == 'f' ? "false" : "null")) return 0;
            } else if (!check_number(c)) {
                return 0;
            }
            wants_value = 0;
            if (depth == 0) return 1;
            continue;
        }
        if (*c->at == ',') {
            c->at++;
            skip_space(c);
            wants_value = 1;
            if (open[depth - 1] == '{') goto name;
            continue;
        }
        if (*c->at != (open[depth - 1] == '{' ? '}' : ']')) return 0;
        c->at++;
        if (--depth == 0) return 1;
        continue;
    name:
        if (!check_string(c)) return 0;
        skip_space(c);
        if (c->at >= c->end || *c->at != ':') return 0;
        c->at++;
    }
}

int pk_json_open(const char *text, size_t bytes, pk_json *value, size_t *where) {
    cursor c = {text, text + bytes};
    int good;
    skip_space(&c);
    value->at = c.at;
    good = check_value(&c);
    value->end = c.at;
    if (good) skip_space(&c);
    if (where) *where = (size_t)(c.at - text);
    return good && c.at == c.end;
}

char pk_json_kind(pk_json value) {
    if (!value.at || value.at >= value.end) return 0;
    return (*value.at >= '0' && *value.at <= '9') || *value.at == '-' ? '0' : *value.at;
}

/* The end of the value at `at`, in text that was checked. */
static const char *skip_value(const char *at, const char *end) {
    int depth = 0;
    while (at < end) {
        if (*at == '"') {
            for (at++; at < end && *at != '"'; at++)
                if (*at == '\\') at++;
            at++;
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else if (depth) {
            at++;
        } else {
            while (at < end && !strchr(",]} \n\r\t", *at)) at++;
            return at;
        }
        if (depth == 0) return at;
    }
    return end;
}

static pk_json item_at(cursor c, pk_json *name) {
    pk_json item = {NULL, NULL};
    skip_space(&c);
    if (c.at >= c.end || *c.at == '}' || *c.at == ']') return item;
    if (name) {
        name->at = c.at;
        name->end = c.at = skip_value(c.at, c.end);
        skip_space(&c);
        c.at++; /* : */
        skip_space(&c);
    }
    item.at = c.at;
    item.end = skip_value(c.at, c.end);
    return item;
}

pk_json pk_json_first(pk_json container, pk_json *name) {
    cursor c = {container.at, container.end};
    pk_json none = {NULL, NULL}, unused;
    char kind = pk_json_kind(container);
    if (kind != '{' && kind != '[') return none;
    c.at++;
    return item_at(c, kind == '{' ? (name ? name : &unused) : NULL);
}

pk_json pk_json_next(pk_json container, pk_json item, pk_json *name) {
    cursor c = {item.end, container.end};
    pk_json none = {NULL, NULL}, unused;
    if (!item.at) return none;
    skip_space(&c);
    if (c.at >= c.end || *c.at != ',') return none;
    c.at++;
    return item_at(c, *container.at == '{' ? (name ? name : &unused) : NULL);
}

pk_json pk_json_get(pk_json object, const char *wanted) {
    pk_json name, found = {NULL, NULL}, item;
    if (pk_json_kind(object) != '{') return found;
    for (item = pk_json_first(object, &name); item.at; item = pk_json_next(object, item, &name))
        if (pk_json_is(name, wanted)) found = item;
    return found;
}

int pk_json_number(pk_json value, double *number) {
    char kept[64] = {0};
    const char *p = value.at;
    size_t count = 0;
    int exponent = 0, point = 0, minus = 0;
    if (pk_json_kind(value) != '0') return 0;
    if (*p == '-') minus = 1, p++;
    for (; p < value.end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            point = 1;
        } else {
            if (count == 0 && *p == '0') {
                exponent -= point;
                continue;
            }
            if (count < sizeof kept) {
                kept[count++] = *p;
                exponent -= point;
            } else {
                if (*p != '0') kept[sizeof kept - 1] = '1'; /* a rest that is not zero */
                exponent += !point;
            }
        }
    }
    if (p < value.end) {
        int sign = 1, power = 0;
        p++;
        if (*p == '+' || *p == '-') sign = *p++ == '-' ? -1 : 1;
        for (; p < value.end; p++)
            if (power < 100000) power = 10 * power + (*p - '0');
        exponent += sign * power;
    }
    *number = pk_decimal(kept, count, exponent);
    if (minus) *number = -*number;
    return *number - *number == 0; /* finite */
}

int pk_json_whole(pk_json value, int64_t low, int64_t high, int64_t *number) {
    double real;
    if (!pk_json_number(value, &real) || !(real >= (double)low && real <= (double)high)) return 0;
    *number = (int64_t)real;
    return (double)*number == real;
}

/* One character of a text: its code, and `*p` behind it. */
static uint32_t character(const char **p) {
    const char *s = *p;
    uint32_t code;
    if (*s != '\\') {
        int n = utf8_length((const unsigned char *)s, 4), i;
        code = (unsigned char)*s;
        if (n > 1) code &= 0xffu >> (n + 1);
        for (i = 1; i < n; i++) code = code << 6 | ((unsigned char)s[i] & 0x3f);
        *p = s + (n ? n : 1);
        return code;
    }
    if (s[1] == 'u') {
        int i;
        for (code = 0, i = 2; i < 6; i++) code = code << 4 | (uint32_t)hex_digit(s[i]);
        *p = s + 6;
        return code;
    }
    *p = s + 2;
    switch (s[1]) {
        case 'b': return 8;
        case 'f': return 12;
        case 'n': return 10;
        case 'r': return 13;
        case 't': return 9;
        default: return (unsigned char)s[1];
    }
}

long pk_json_text(pk_json value, char *out, size_t room) {
    const char *p, *end;
    size_t used = 0;
    if (pk_json_kind(value) != '"') return -1;
    p = value.at + 1;
    end = value.end - 1;
    while (p < end) {
        char bytes[4];
        int n = 0, i;
        uint32_t code = character(&p);
        if (code >= 0xd800 && code < 0xdc00 && p < end && *p == '\\' && p[1] == 'u') {
            const char *before = p;
            uint32_t low = character(&p);
            if (low >= 0xdc00 && low < 0xe000) {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            } else {
                p = before;
            }
        }
        if (code == 0) return -1;
        if (code >= 0xd800 && code < 0xe000) code = 0xfffd; /* half of a pair */
        if (code < 0x80) {
            bytes[n++] = (char)code;
        } else {
            if (code >= 0x10000) {
                bytes[n++] = (char)(0xf0 | code >> 18);
                bytes[n++] = (char)(0x80 | (code >> 12 & 0x3f));
            } else if (code >= 0x800) {
                bytes[n++] = (char)(0xe0 | code >> 12);
            }
            bytes[n] = (char)(n ? (0x80 | (code >> 6 & 0x3f)) : (0xc0 | code >> 6));
            n++;
            bytes[n++] = (char)(0x80 | (code & 0x3f));
        }
        for (i = 0; i < n; i++, used++)
            if (used < room) out[used] = bytes[i];
    }
    if (used > LONG_MAX / 2) return -1;
    if (room) out[used < room ? used : room - 1] = 0;
    return (long)used;
}

int pk_json_is(pk_json value, const char *text) {
    char buffer[64]; /* every name that is asked for is shorter */
    long n = pk_json_text(value, buffer, sizeof buffer);
    return n >= 0 && (size_t)n < sizeof buffer && strcmp(buffer, text) == 0;
}
