/* A librkllmrt.so of our own: the vendor's C interface over a scripted model, bad days included.
 *
 * It computes nothing. It reads what it is given through the family's structures, waits as long as the script says,
 * and answers with a pure function of the token ids (speech.c) or with the script's replies. ../README.md lists what a
 * script can say and where it follows what is known of the vendor's library. */
#include "emulator.h"

#include "layout_asserts.h"
#include "speech.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LIVE 0x524b454du /* a handle of ours */
#define CACHE_MAGIC "RKLLMEMU"
#define DOMAINS 16

#if RKLLM_ABI == ABI_1_1
#define FAMILY "abi-1.1"
#define VERSION "1.1.4"
#elif RKLLM_ABI == ABI_1_2_0
#define FAMILY "abi-1.2.0"
#define VERSION "1.2.0"
#elif RKLLM_ABI == ABI_1_2_1B1
#define FAMILY "abi-1.2.1b1"
#define VERSION "1.2.1b1"
#elif RKLLM_ABI == ABI_1_2_1
#define FAMILY "abi-1.2.1"
#define VERSION "1.2.3"
#else
#define FAMILY "abi-1.3.0"
#define VERSION "1.3.0"
#endif

/* What identification reads out of the file, without loading it. */
#ifdef VENDOR_MARKER_VERSION
#undef VERSION
#define VERSION VENDOR_MARKER_VERSION
/* A build that passes for a library that somebody else wrote. */
#define MARKER "RKLLM SDK (version: " VENDOR_MARKER_VERSION " | target: Linux | build: 00000000 2026-01-01 00:00:00)"
#else
#define MARKER "RKLLAMA RKLLM EMULATOR (version: " VERSION " | family: " FAMILY ")"
#endif
static const char marker[] = MARKER;

static atomic_int handles;

/* --------------------------------------------------------------------------------------------- small things */

void emulator_say(const script_t *s, char level, const char *text) {
    if (s == NULL || s->log) {
        printf("%c rkllm: %s\n", level, text);
        fflush(stdout);
    }
}

emulator_t *emulator_of(LLMHandle handle) {
    emulator_t *e = handle;
    return e != NULL && e->live == LIVE ? e : NULL;
}

void emulator_trace(trace_t *t, const emulator_t *e, const char *event) {
    trace_begin(t, event);
    trace_int(t, "handle", e->number);
}

/* Trace a call that has nothing to say but its name and status. */
static int plain(const emulator_t *e, const char *event, int status) {
    trace_t t;
    emulator_trace(&t, e, event);
    trace_int(&t, "status", status);
    trace_end(&t, e->script->trace);
    return status;
}

static volatile int *volatile nowhere;

void emulator_fall(const script_t *s, fault_t fault) {
    switch (fault) {
    case FAULT_ABORT:
        emulator_say(s, 'E', "GGML_ASSERT(scripted) failed");
        abort();
    case FAULT_SEGFAULT:
        *nowhere = 1;
        break;
    case FAULT_EXIT:
        _exit(1);
    case FAULT_HANG:
        for (;;) {
            pause();
        }
    case FAULT_NONE:
    case FAULT_ERROR:
        break;
    }
}

bool emulator_wait(emulator_t *e, double seconds, bool heed) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double scaled = seconds / e->script->clock;
    until.tv_sec += (time_t)scaled;
    until.tv_nsec += (long)((scaled - (double)(time_t)scaled) * 1e9);
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_mutex_lock(&e->lock);
    int late = 0;
    while (seconds > 0 && late != ETIMEDOUT && !(heed && e->abort_wanted)) {
        late = pthread_cond_timedwait(&e->wake, &e->lock, &until);
    }
    bool stop = heed && e->abort_wanted;
    pthread_mutex_unlock(&e->lock);
    return stop;
}

/* --------------------------------------------------------------------------------------------- init, destroy */

EXPORT RKLLMParam rkllm_createDefaultParam(void) {
    /* The manual's defaults, and the log of a 1.2.1 library for those that it does not give. */
    RKLLMParam p = {0};
    p.max_context_len = 512;
    p.max_new_tokens = -1;
    p.top_k = 40;
    p.top_p = 0.9f;
    p.temperature = 0.8f;
    p.repeat_penalty = 1.1f;
    p.mirostat_tau = 5.0f;
    p.mirostat_eta = 0.1f;
    p.skip_special_token = true;
#if HAS_HISTORY
    p.n_keep = -1;
#endif
#if RKLLM_ABI < ABI_1_3_0
    p.img_start = p.img_end = p.img_content = "";
#endif
#if HAS_CPU_MASK
    p.extend_param.embed_flash = 1;
    p.extend_param.enabled_cpus_num = 4;
    p.extend_param.enabled_cpus_mask = 0xf0;
#endif
#if HAS_BATCH
    p.extend_param.n_batch = 1;
#endif
    return p;
}

static void trace_param(trace_t *t, const RKLLMParam *p) {
    trace_open(t, "param", '{');
    trace_text(t, "model_path", p->model_path);
    trace_int(t, "max_context_len", p->max_context_len);
    trace_int(t, "max_new_tokens", p->max_new_tokens);
    trace_int(t, "top_k", p->top_k);
#if HAS_HISTORY
    trace_int(t, "n_keep", p->n_keep);
#endif
    trace_real(t, "top_p", p->top_p);
    trace_real(t, "temperature", p->temperature);
    trace_real(t, "repeat_penalty", p->repeat_penalty);
    trace_real(t, "frequency_penalty", p->frequency_penalty);
    trace_real(t, "presence_penalty", p->presence_penalty);
    trace_int(t, "mirostat", p->mirostat);
    trace_real(t, "mirostat_tau", p->mirostat_tau);
    trace_real(t, "mirostat_eta", p->mirostat_eta);
    trace_bool(t, "skip_special_token", p->skip_special_token);
    trace_bool(t, "is_async", p->is_async);
#if RKLLM_ABI >= ABI_1_3_0
    trace_bool(t, "ignore_eos_token", p->ignore_eos_token);
#else
    trace_text(t, "img_start", p->img_start);
    trace_text(t, "img_end", p->img_end);
    trace_text(t, "img_content", p->img_content);
#endif
    trace_open(t, "extend_param", '{');
    trace_int(t, "base_domain_id", p->extend_param.base_domain_id);
#if HAS_CPU_MASK
    trace_int(t, "embed_flash", p->extend_param.embed_flash);
    trace_int(t, "enabled_cpus_num", p->extend_param.enabled_cpus_num);
    trace_int(t, "enabled_cpus_mask", p->extend_param.enabled_cpus_mask);
#endif
#if HAS_BATCH
    trace_int(t, "n_batch", p->extend_param.n_batch);
    trace_int(t, "use_cross_attn", p->extend_param.use_cross_attn);
#endif
    bool clean = true;
    for (size_t i = 0; i < sizeof p->extend_param.reserved; i++) {
        clean = clean && p->extend_param.reserved[i] == 0;
    }
    trace_bool(t, "reserved_is_zero", clean);
    trace_close(t, '}');
    trace_close(t, '}');
}

/* The checks that the vendor's library is known to make. NULL when the model may load. */
static const char *refusal(const script_t *s, const RKLLMParam *p, char *room, size_t count) {
    if (s->init_fault == INIT_FAIL) {
        return "failed to malloc npu memory, size: 4022272000 (scripted)";
    }
    if (strcmp(s->platform, s->target_platform) != 0) {
        return "the model's target_platform does not match the real platform";
    }
    if (p->max_context_len > s->context_limit) {
        snprintf(room, count, "max_context[%d] must be less than the model's max_context_limit[%lld]",
                 (int)p->max_context_len, (long long)s->context_limit);
        return room;
    }
    if (p->max_context_len <= 0) {
        return "max_context must be greater than 0";
    }
    if (p->extend_param.base_domain_id < 0 || p->extend_param.base_domain_id >= DOMAINS) {
        return "failed to allocate handle, ret: -1, errno: 22, errstr: Invalid argument (base_domain_id)";
    }
#if HAS_CPU_MASK
    if (p->extend_param.enabled_cpus_num != __builtin_popcount(p->extend_param.enabled_cpus_mask) ||
        p->extend_param.enabled_cpus_num < 1) {
        return "Mismatch between enabled CPUs mask and expected count";
    }
#endif
#if HAS_BATCH
    if (p->extend_param.n_batch > 1) {
        return "this emulator has no batches";
    }
#endif
    return NULL;
}

static void say_hello(const script_t *s, const RKLLMParam *p) {
    SAYF(s, 'I', "rkllm-runtime version: %s, rknpu driver version: %s, platform: %s", VERSION, s->driver_version,
         s->platform);
    /* Said, so that no linker drops it. */
    emulator_say(s, 'I', marker);
    SAYF(s, 'I', "loading rkllm model from %s", p->model_path);
#if RKLLM_ABI >= ABI_1_2_1
    SAYF(s, 'I',
         "rkllm-toolkit version: %s, max_context_limit: %lld, npu_core_num: %lld, target_platform: %s, "
         "model_dtype: %s",
         s->toolkit_version, (long long)s->context_limit, (long long)s->npu_cores, s->target_platform, s->model_dtype);
#else
    SAYF(s, 'I', "rkllm-toolkit version: %s, max_context_limit: %lld, npu_core_num: %lld, target_platform: %s",
         s->toolkit_version, (long long)s->context_limit, (long long)s->npu_cores, s->target_platform);
#endif
}

static int init(LLMHandle *handle, const RKLLMParam *p, LLMResultCallback callback, void *userdata,
                const void *tokenizer, const void *embedder) {
    if (handle == NULL || p == NULL || callback == NULL) {
        emulator_say(NULL, 'E', "rkllm_init: a NULL argument");
        return -1;
    }
    char why[900] = "";
    script_t *s = script_read(p->model_path, VERSION, HAS_HISTORY, why, sizeof why);
    if (s == NULL) {
        SAYF(NULL, 'E', "invalid rkllm model! %s", why);
        return -1;
    }
    say_hello(s, p);
    if (s->init_fault == INIT_SEGFAULT) {
        emulator_fall(s, FAULT_SEGFAULT);
    }
    const char *refused = refusal(s, p, why, sizeof why);
    emulator_t *e = calloc(1, sizeof *e);
    if (e == NULL) {
        abort();
    }
    e->number = atomic_fetch_add(&handles, 1) + 1;
    e->script = s;

    trace_t t;
    emulator_trace(&t, e, "init");
    trace_text(&t, "family", FAMILY);
    trace_int(&t, "status", refused ? -1 : 0);
    trace_text(&t, "refused", refused);
    trace_bool(&t, "tokenizer_callback", tokenizer != NULL);
    trace_bool(&t, "embed_callback", embedder != NULL);
    trace_param(&t, p);
    trace_end(&t, s->trace);

    if (refused) {
        emulator_say(s, 'E', refused);
        emulator_say(s, 'E', "rkllm_init failed");
        script_free(s);
        free(e);
        return -1;
    }
    e->live = LIVE;
    e->callback = callback;
    e->userdata = userdata;
    e->max_context_len = p->max_context_len;
    e->max_new_tokens = p->max_new_tokens;
    e->n_keep = -1;
    e->skip_special = p->skip_special_token;
    e->ignore_eos = s->ignore_eos;
#if HAS_HISTORY
    e->n_keep = p->n_keep;
#endif
#if RKLLM_ABI >= ABI_1_3_0
    e->ignore_eos = e->ignore_eos || p->ignore_eos_token;
#endif
    e->system = script_copy(s->template_system);
    e->prefix = script_copy(s->template_prefix);
    e->postfix = script_copy(s->template_postfix);
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&e->wake, &steady);
    pthread_condattr_destroy(&steady);
    pthread_mutex_init(&e->lock, NULL);
    emulator_wait(e, s->load_ms / 1000, false);
    *handle = e;
    return 0;
}

#if RKLLM_ABI >= ABI_1_3_0
EXPORT int rkllm_init(LLMHandle *handle, RKLLMParam *param, RKLLMCallback *callback) {
    if (callback == NULL) {
        emulator_say(NULL, 'E', "rkllm_init: callback is NULL");
        return -1;
    }
    return init(handle, param, callback->result_callback, callback->result_userdata,
                (const void *)(uintptr_t)callback->tokenizer_callback,
                (const void *)(uintptr_t)callback->embed_callback);
}
#else
EXPORT int rkllm_init(LLMHandle *handle, RKLLMParam *param, LLMResultCallback callback) {
    return init(handle, param, callback, NULL, NULL, NULL);
}
#endif

EXPORT int rkllm_destroy(LLMHandle handle) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    plain(e, "destroy", 0);
    emulator_fall(e->script, e->script->destroy_fault);
    e->live = 0;
    for (size_t i = 0; i < e->lora_count; i++) {
        free(e->loras[i].name);
    }
    free(e->loras);
    free(e->system);
    free(e->prefix);
    free(e->postfix);
    ids_free(&e->cache);
    script_free(e->script);
    pthread_mutex_destroy(&e->lock);
    pthread_cond_destroy(&e->wake);
    free(e);
    return 0;
}

/* --------------------------------------------------------------------------------------------- between runs */

EXPORT int rkllm_load_lora(LLMHandle handle, RKLLMLoraAdapter *adapter) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL || adapter == NULL) {
        return -1;
    }
    bool good = adapter->lora_adapter_path && adapter->lora_adapter_name &&
                access(adapter->lora_adapter_path, R_OK) == 0;
    trace_t t;
    emulator_trace(&t, e, "load_lora");
    trace_text(&t, "path", adapter->lora_adapter_path);
    trace_text(&t, "name", adapter->lora_adapter_name);
    trace_real(&t, "scale", adapter->scale);
    trace_int(&t, "status", good ? 0 : -1);
    trace_end(&t, e->script->trace);
    if (!good) {
        emulator_say(e->script, 'E', "failed to load the lora adapter");
        return -1;
    }
    e->loras = realloc(e->loras, (e->lora_count + 1) * sizeof *e->loras);
    if (e->loras == NULL) {
        abort();
    }
    uint64_t effect = speech_start(0);
    for (const char *p = adapter->lora_adapter_name; *p; p++) {
        effect = speech_step(effect, *p);
    }
    e->loras[e->lora_count++] = (lora_t){script_copy(adapter->lora_adapter_name), effect};
    return 0;
}

static const char *load_cache(emulator_t *e, const char *path) {
    if (!e->script->prompt_cache_works) {
        return "the model does not support loading the prompt cache";
    }
    if (e->restored) {
        return "a prompt cache is loaded: release it first";
    }
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (file == NULL) {
        return "failed to open the prompt cache file";
    }
    char magic[sizeof CACHE_MAGIC] = "";
    uint64_t digest = 0;
    uint64_t count = 0;
    const char *why = NULL;
    if (fread(magic, 1, sizeof CACHE_MAGIC - 1, file) != sizeof CACHE_MAGIC - 1 || strcmp(magic, CACHE_MAGIC) != 0 ||
        fread(&digest, sizeof digest, 1, file) != 1 || fread(&count, sizeof count, 1, file) != 1) {
        why = "the prompt cache file is empty or damaged";
    } else if (digest != e->script->digest) {
        why = "the prompt dose not match the current model";
    } else {
        e->cache.count = 0;
        int32_t id;
        while (count > 0 && fread(&id, sizeof id, 1, file) == 1) {
            ids_push(&e->cache, id);
            count--;
        }
        if (count > 0) {
            /* What a half-read cache holds is not to be built upon. */
            e->cache.count = 0;
            why = "the prompt cache file is empty or damaged";
        }
    }
    fclose(file);
    if (why == NULL) {
        e->restored = true;
        emulator_wait(e, e->script->restore_ms / 1000, false);
    }
    return why;
}

bool emulator_save_cache(const emulator_t *e, const char *path, size_t count) {
    FILE *file = e->script->prompt_cache_works ? fopen(path, "wb") : NULL;
    if (file == NULL) {
        return false;
    }
    uint64_t stored = count;
    fwrite(CACHE_MAGIC, 1, sizeof CACHE_MAGIC - 1, file);
    fwrite(&e->script->digest, sizeof e->script->digest, 1, file);
    fwrite(&stored, sizeof stored, 1, file);
    fwrite(e->cache.at, sizeof *e->cache.at, count, file);
    return fclose(file) == 0;
}

EXPORT int rkllm_load_prompt_cache(LLMHandle handle, const char *path) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    const char *why = load_cache(e, path);
    trace_t t;
    emulator_trace(&t, e, "load_prompt_cache");
    trace_text(&t, "path", path);
    trace_int(&t, "positions", (int64_t)e->cache.count);
    trace_int(&t, "status", why ? -1 : 0);
    trace_end(&t, e->script->trace);
    if (why) {
        emulator_say(e->script, 'E', why);
    }
    return why ? -1 : 0;
}

EXPORT int rkllm_release_prompt_cache(LLMHandle handle) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    e->cache.count = 0;
    e->restored = false;
    return plain(e, "release_prompt_cache", 0);
}

EXPORT int rkllm_abort(LLMHandle handle) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    pthread_mutex_lock(&e->lock);
    bool running = e->running;
    /* Nothing to stop: an abort that comes before its run has begun is lost. */
    e->abort_wanted = running;
    pthread_cond_broadcast(&e->wake);
    pthread_mutex_unlock(&e->lock);
    return plain(e, "abort", running ? 0 : -1);
}

EXPORT int rkllm_is_running(LLMHandle handle) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    pthread_mutex_lock(&e->lock);
    bool running = e->running;
    pthread_mutex_unlock(&e->lock);
    /* Headers up to 1.2.3 say 0 = running, 1.3.0 says 1 = running. */
    return RKLLM_ABI >= ABI_1_3_0 ? running : !running;
}

#if HAS_CHAT_TEMPLATE
static int clear_cache(emulator_t *e, int keep_system_prompt, const int *start, const int *end) {
    size_t keep = keep_system_prompt && e->system_count < e->cache.count ? e->system_count : 0;
    trace_t t;
    emulator_trace(&t, e, "clear_kv_cache");
    trace_int(&t, "keep_system_prompt", keep_system_prompt);
    trace_bool(&t, "ranges", start != NULL || end != NULL);
    trace_int(&t, "positions", (int64_t)e->cache.count);
    trace_int(&t, "status", 0);
    trace_end(&t, e->script->trace);
    if (start != NULL && end != NULL && *start >= 0 && *start <= *end && (size_t)*end <= e->cache.count) {
        memmove(e->cache.at + *start, e->cache.at + *end, (e->cache.count - (size_t)*end) * sizeof *e->cache.at);
        e->cache.count -= (size_t)(*end - *start);
    } else {
        e->cache.count = keep;
    }
    return 0;
}

#if RKLLM_ABI >= ABI_1_2_1
EXPORT int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt, int *start_pos, int *end_pos) {
    emulator_t *e = emulator_of(handle);
    return e == NULL ? -1 : clear_cache(e, keep_system_prompt, start_pos, end_pos);
}

EXPORT int rkllm_get_kv_cache_size(LLMHandle handle, int *cache_sizes) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL || cache_sizes == NULL) {
        return -1;
    }
    cache_sizes[0] = (int)e->cache.count;
    return plain(e, "get_kv_cache_size", 0);
}

EXPORT int rkllm_set_function_tools(LLMHandle handle, const char *system_prompt, const char *tools,
                                    const char *tool_response_str) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    trace_t t;
    emulator_trace(&t, e, "set_function_tools");
    trace_text(&t, "system_prompt", system_prompt);
    trace_text(&t, "tools", tools);
    trace_text(&t, "tool_response", tool_response_str);
    trace_int(&t, "status", 0);
    trace_end(&t, e->script->trace);
    return 0;
}

EXPORT int rkllm_set_cross_attn_params(LLMHandle handle, RKLLMCrossAttnParam *param) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL || param == NULL) {
        return -1;
    }
    trace_t t;
    emulator_trace(&t, e, "set_cross_attn_params");
    trace_int(&t, "num_tokens", param->num_tokens);
    trace_real(&t, "k", param->encoder_k_cache ? param->encoder_k_cache[0] : 0);
    trace_real(&t, "v", param->encoder_v_cache ? param->encoder_v_cache[0] : 0);
    trace_reals(&t, "mask", param->encoder_mask, param->encoder_mask ? (size_t)param->num_tokens : 0);
    trace_ids(&t, "pos", param->encoder_pos, param->encoder_pos ? (size_t)param->num_tokens : 0);
    trace_int(&t, "status", 0);
    trace_end(&t, e->script->trace);
    return 0;
}
#else
EXPORT int rkllm_clear_kv_cache(LLMHandle handle, int keep_system_prompt) {
    emulator_t *e = emulator_of(handle);
    return e == NULL ? -1 : clear_cache(e, keep_system_prompt, NULL, NULL);
}
#endif

EXPORT int rkllm_set_chat_template(LLMHandle handle, const char *system_prompt, const char *prompt_prefix,
                                   const char *prompt_postfix) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL) {
        return -1;
    }
    trace_t t;
    emulator_trace(&t, e, "set_chat_template");
    trace_text(&t, "system", system_prompt);
    trace_text(&t, "prefix", prompt_prefix);
    trace_text(&t, "postfix", prompt_postfix);
    trace_int(&t, "status", 0);
    trace_end(&t, e->script->trace);
    free(e->system);
    free(e->prefix);
    free(e->postfix);
    e->system = script_copy(system_prompt);
    e->prefix = script_copy(prompt_prefix);
    e->postfix = script_copy(prompt_postfix);
    e->cache.count = 0;
    emulator_say(e->script, 'W', "All kv caches have been deleted!");
    return 0;
}
#endif
