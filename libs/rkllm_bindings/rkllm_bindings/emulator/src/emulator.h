/* One handle of the emulator, shared by its life cycle (emulator.c) and its runs (run.c). */
#ifndef EMULATOR_H
#define EMULATOR_H

#include "rkllm_abi.h"

#include "script.h"
#include "trace.h"

#include <pthread.h>
#include <stdio.h>

#define EXPORT __attribute__((visibility("default")))

typedef struct {
    char *name;
    uint64_t effect;
} lora_t;

typedef struct {
    uint32_t live;
    int number; /* of this handle in this process, from 1 */
    script_t *script;
    LLMResultCallback callback;
    void *userdata;
    int32_t max_context_len;
    int32_t max_new_tokens;
    int32_t n_keep;
    bool skip_special;
    bool ignore_eos;
    /* Set by the calling thread between runs. */
    char *system;
    char *prefix;
    char *postfix;
    lora_t *loras;
    size_t lora_count;
    ids_t cache; /* the positions that the KV cache holds */
    size_t system_count;
    bool restored; /* a prompt cache is loaded, and not released */
    bool history; /* the cache is the history of a conversation */
    int runs;
    /* Shared with rkllm_abort, under `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool running;
    bool abort_wanted;
    bool paused;
} emulator_t;

/* One line of the log, as the vendor's library prints it: `I rkllm: ...` on stdout, flushed. */
void emulator_say(const script_t *s, char level, const char *text);

#define SAYF(script, level, ...)                    \
    do {                                            \
        char line_[1024];                           \
        snprintf(line_, sizeof line_, __VA_ARGS__); \
        emulator_say(script, level, line_);         \
    } while (0)

/* NULL for anything that is no live handle of ours. */
emulator_t *emulator_of(LLMHandle handle);
void emulator_trace(trace_t *t, const emulator_t *e, const char *event);
/* Do what the fault says; returns only for those that are no crash. */
void emulator_fall(const script_t *s, fault_t fault);
/* Wait `seconds` of the script's time. True if an abort came and `heed` said to stop for it. */
bool emulator_wait(emulator_t *e, double seconds, bool heed);
bool emulator_save_cache(const emulator_t *e, const char *path, size_t count);

#endif
