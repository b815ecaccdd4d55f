/* What a model file says: the script of one emulated model. The keys are listed in ../README.md. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int32_t *at;
    size_t count;
    size_t room;
} ids_t;

void ids_push(ids_t *ids, int32_t id);
void ids_append(ids_t *ids, const int32_t *more, size_t count);
void ids_free(ids_t *ids);

typedef struct {
    char *at; /* NUL-terminated behind `count` bytes */
    size_t count;
} bytes_t;

typedef struct {
    bytes_t text;
    bool special;
} token_t;

typedef struct {
    char *when; /* NULL: the default */
    bytes_t text;
    ids_t ids;
    bool is_ids;
} reply_t;

typedef enum { INIT_OK, INIT_FAIL, INIT_LATE_CRASH, INIT_SEGFAULT } init_fault_t;
typedef enum { FAULT_NONE, FAULT_ABORT, FAULT_SEGFAULT, FAULT_EXIT, FAULT_HANG, FAULT_ERROR } fault_t;

typedef struct {
    /* the file */
    uint64_t digest; /* of its first MiB and its size: tells models apart */
    int64_t context_limit;
    int64_t npu_cores;
    char *platform;
    char *target_platform;
    char *toolkit_version;
    char *driver_version;
    char *model_dtype;
    bool log;
    double load_ms;
    double memory_mb;
    /* vocabulary */
    int64_t vocab_size; /* 0: any id is taken */
    int64_t embd_size;
    token_t *tokens;
    size_t token_count;
    bool bytes_mode;
    ids_t eos;
    bool show_eos;
    bool ignore_eos;
    bool split_utf8;
    /* speed */
    double prefill_tokens_per_s;
    double decode_tokens_per_s;
    double clock;
    /* what it says */
    reply_t *replies;
    size_t reply_count;
    bool resume_replies;
    bytes_t alphabet;
    ids_t alphabet_ids;
    uint64_t seed;
    int64_t eos_every;
    int64_t answer_tokens;
    int64_t answer_mark;
    char *template_system;
    char *template_prefix;
    char *template_postfix;
    /* bad days */
    init_fault_t init_fault;
    fault_t fault;
    int64_t fault_after;
    int64_t fault_on_run;
    char *fault_when;
    char *fault_once;
    fault_t destroy_fault;
    bool abort_cuts_prefill;
    int64_t abort_after_tokens;
    bool finish_after_abort;
    int64_t abort_status;
    /* context */
    bool prefix_reuse;
    bool prompt_cache_works;
    double restore_ms;
    int64_t reserved_positions;
    bool stop_when_full;
    bool logits_continue;
    bool foreign_thread;
    /* what tests look at */
    char *trace;
    char *board;
} script_t;

/* A copy to free; of the empty string for NULL. */
char *script_copy(const char *text);

/* Read `path`. A file that is no script gives the defaults. NULL, and a sentence in `why`, when it cannot be read. */
script_t *script_read(const char *path, const char *runtime_version, bool reuse, char *why, size_t room);
void script_free(script_t *script);

/* The id of a token that has no text, or one past the table, is the empty string. */
bytes_t script_text(const script_t *script, int32_t id);
/* Longest match first; special tokens are matched by their text; what has no token is skipped. */
void script_tokenize(const script_t *script, const char *text, size_t count, ids_t *out);
bool script_is_eos(const script_t *script, int32_t id);

#endif
