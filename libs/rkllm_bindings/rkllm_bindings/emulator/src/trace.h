/* JSON lines of what crossed the border, for tests. One write(2) a line, so that processes may share a file. */
#ifndef TRACE_H
#define TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    char *at;
    size_t count;
    size_t room;
} trace_t;

void trace_begin(trace_t *t, const char *event);
void trace_int(trace_t *t, const char *key, int64_t value);
void trace_real(trace_t *t, const char *key, double value);
void trace_bool(trace_t *t, const char *key, bool value);
/* NULL becomes null. */
void trace_text(trace_t *t, const char *key, const char *value);
void trace_bytes(trace_t *t, const char *key, const char *value, size_t count);
void trace_ids(trace_t *t, const char *key, const int32_t *ids, size_t count);
void trace_reals(trace_t *t, const char *key, const float *values, size_t count);
void trace_null(trace_t *t, const char *key);
void trace_open(trace_t *t, const char *key, char bracket);
void trace_close(trace_t *t, char bracket);
/* Append the line to `path` (NULL: nowhere) and free it. */
void trace_end(trace_t *t, const char *path);

#endif
