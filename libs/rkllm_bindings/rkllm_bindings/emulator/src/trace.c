#include "trace.h"

#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void put(trace_t *t, const char *bytes, size_t count) {
    if (t->count + count + 1 > t->room) {
        t->room = (t->count + count + 1) * 2;
        t->at = realloc(t->at, t->room);
        if (t->at == NULL) {
            abort();
        }
    }
    memcpy(t->at + t->count, bytes, count);
    t->count += count;
    t->at[t->count] = '\0';
}

static void putf(trace_t *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void putf(trace_t *t, const char *format, ...) {
    char small[64];
    va_list more;
    va_start(more, format);
    int count = vsnprintf(small, sizeof small, format, more);
    va_end(more);
    put(t, small, (size_t)count);
}

static void put_string(trace_t *t, const char *value, size_t count) {
    put(t, "\"", 1);
    for (size_t i = 0; i < count; i++) {
        unsigned char c = (unsigned char)value[i];
        if (c == '"' || c == '\\') {
            putf(t, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            putf(t, "\\u%04x", c);
        } else {
            put(t, value + i, 1);
        }
    }
    put(t, "\"", 1);
}

static void put_key(trace_t *t, const char *key) {
    char last = t->count ? t->at[t->count - 1] : '\0';
    if (last != '{' && last != '[') {
        put(t, ",", 1);
    }
    if (key != NULL) {
        put_string(t, key, strlen(key));
        put(t, ":", 1);
    }
}

static void put_real(trace_t *t, double value) {
    if (isfinite(value)) {
        putf(t, "%.9g", value);
    } else {
        put(t, "null", 4);
    }
}

void trace_begin(trace_t *t, const char *event) {
    *t = (trace_t){0};
    put(t, "{", 1);
    trace_text(t, "event", event);
    trace_int(t, "pid", getpid());
}

void trace_int(trace_t *t, const char *key, int64_t value) {
    put_key(t, key);
    putf(t, "%lld", (long long)value);
}

void trace_real(trace_t *t, const char *key, double value) {
    put_key(t, key);
    put_real(t, value);
}

void trace_bool(trace_t *t, const char *key, bool value) {
    put_key(t, key);
    put(t, value ? "true" : "false", value ? 4 : 5);
}

void trace_text(trace_t *t, const char *key, const char *value) {
    put_key(t, key);
    if (value == NULL) {
        put(t, "null", 4);
    } else {
        put_string(t, value, strlen(value));
    }
}

void trace_bytes(trace_t *t, const char *key, const char *value, size_t count) {
    put_key(t, key);
    put_string(t, value, count);
}

void trace_ids(trace_t *t, const char *key, const int32_t *ids, size_t count) {
    trace_open(t, key, '[');
    for (size_t i = 0; i < count; i++) {
        putf(t, i ? ",%d" : "%d", (int)ids[i]);
    }
    trace_close(t, ']');
}

void trace_reals(trace_t *t, const char *key, const float *values, size_t count) {
    trace_open(t, key, '[');
    for (size_t i = 0; i < count; i++) {
        if (i) {
            put(t, ",", 1);
        }
        put_real(t, values[i]);
    }
    trace_close(t, ']');
}

void trace_null(trace_t *t, const char *key) {
    put_key(t, key);
    put(t, "null", 4);
}

void trace_open(trace_t *t, const char *key, char bracket) {
    put_key(t, key);
    put(t, &bracket, 1);
}

void trace_close(trace_t *t, char bracket) {
    put(t, &bracket, 1);
}

void trace_end(trace_t *t, const char *path) {
    put(t, "}\n", 2);
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    if (file >= 0) {
        ssize_t written = write(file, t->at, t->count);
        (void)written;
        close(file);
    }
    free(t->at);
    *t = (trace_t){0};
}
