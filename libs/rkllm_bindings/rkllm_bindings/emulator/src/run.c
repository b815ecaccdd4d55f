/* One run: read what crossed the border, wait, speak, fall. */
#include "emulator.h"

#include "speech.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define PSEUDO_ID (1 << 24) /* ids from here on stand for rows of embeddings */

static atomic_int runs_in_process;

static bool abort_wanted(emulator_t *e) {
    pthread_mutex_lock(&e->lock);
    bool wanted = e->abort_wanted;
    pthread_mutex_unlock(&e->lock);
    return wanted;
}

typedef struct {
    emulator_t *e;
    RKLLMInput *input;
    RKLLMInferParam *infer;
    void *userdata;
    int status;
    /* what was read */
    ids_t prompt;
    const char *trouble;
    uint64_t lora;
    int64_t limit; /* new tokens; <= 0: as many as fit */
    bool keep_history;
    bool late;    /* this run falls as the script says */
    int board;    /* file descriptor of the board's lock, or -1 */
    /* what came of it */
    ids_t made;
    size_t reused;
    size_t prefilled;
    bytes_t pending; /* bytes of an unfinished character */
    bool aborted;
    bool paused;
    bool finished;
    int released;
} run_t;

/* Of a row of logits: the vocabulary that the script names, or else the tokens that have a text. */
static size_t logits_width(const script_t *s) {
    return s->vocab_size > 0 ? (size_t)s->vocab_size : s->token_count;
}

/* Hand one result over; then make its memory useless, as the vendor's may be. */
static int deliver(run_t *r, LLMCallState state, const char *text, int32_t id, const float *hidden, const float *logits,
                   size_t rows, bool perf) {
    emulator_t *e = r->e;
    const script_t *s = e->script;
    RKLLMResult result;
    memset(&result, 0, sizeof result);
    size_t count = text ? strlen(text) : 0;
    char *own = text ? script_copy(text) : NULL;
    result.text = own;
    result.token_id = id;
    if (hidden) {
        result.last_hidden_layer.hidden_states = hidden;
        result.last_hidden_layer.embd_size = (int)s->embd_size;
        result.last_hidden_layer.num_tokens = (int)rows;
    }
#if HAS_LOGITS
    if (logits) {
        result.logits.logits = logits;
        result.logits.vocab_size = (int)logits_width(s);
        result.logits.num_tokens = (int)rows;
    }
#else
    (void)logits;
#endif
#if HAS_PERF
    if (perf) {
        double prefill = s->prefill_tokens_per_s, decode = s->decode_tokens_per_s;
        result.perf.prefill_tokens = (int)r->prefilled;
        result.perf.generate_tokens = (int)r->made.count;
        result.perf.prefill_time_ms = prefill > 0 ? (float)(1000.0 * (double)r->prefilled / prefill / s->clock) : 0;
        result.perf.generate_time_ms = decode > 0 ? (float)(1000.0 * (double)r->made.count / decode / s->clock) : 0;
        result.perf.memory_usage_mb = (float)s->memory_mb;
    }
#else
    (void)perf;
#endif
    void *userdata = r->userdata ? r->userdata : e->userdata;
    int answer = 0;
#if CALLBACK_RETURNS
    answer = e->callback(&result, userdata, state);
#else
    e->callback(&result, userdata, state);
#endif
    memset(&result, 0xdd, sizeof result);
    if (own) {
        memset(own, 0xdd, count);
        free(own);
    }
    if (answer == 2) {
        r->released++;
    }
    if (answer == 1) {
        r->paused = true;
    }
    return answer;
}

/* Text goes out in whole characters unless the script splits them. */
static void deliver_token(run_t *r, int32_t id, bool special) {
    const script_t *s = r->e->script;
    bytes_t text = special && r->e->skip_special ? (bytes_t){"", 0} : script_text(s, id);
    bytes_t *pending = &r->pending;
    char *joined = malloc(pending->count + text.count + 1);
    if (joined == NULL) {
        abort();
    }
    memcpy(joined, pending->at ? pending->at : "", pending->count);
    memcpy(joined + pending->count, text.at, text.count);
    size_t count = pending->count + text.count;
    joined[count] = '\0';
    free(pending->at);
    *pending = (bytes_t){0};
    if (!s->split_utf8 && speech_unfinished(joined, count) > 0) {
        *pending = (bytes_t){joined, count};
        deliver(r, RKLLM_RUN_WAITING, NULL, id, NULL, NULL, 0, false);
        return;
    }
    deliver(r, RKLLM_RUN_NORMAL, joined, id, NULL, NULL, 0, false);
    free(joined);
}

static int32_t row_id(const float *row, int64_t size) {
    uint64_t hash = speech_start(0);
    for (int64_t j = 0; j < size; j++) {
        int32_t bits;
        memcpy(&bits, row + j, sizeof bits);
        hash = speech_step(hash, bits);
    }
    return (int32_t)(PSEUDO_ID + speech_pick(hash, INT32_MAX - PSEUDO_ID));
}

static void read_rows(run_t *r, const float *rows, size_t count) {
    int64_t size = r->e->script->embd_size;
    for (size_t i = 0; i < count; i++) {
        ids_push(&r->prompt, row_id(rows + (int64_t)i * size, size));
    }
}

static void read_text(run_t *r, const char *text, size_t count) {
    script_tokenize(r->e->script, text, count, &r->prompt);
}

/* The chat template: known to be applied to text and multimodal prompts, not to tokens or embeddings. */
static void begin_template(run_t *r) {
    read_text(r, r->e->system, strlen(r->e->system));
    r->e->system_count = r->prompt.count;
    read_text(r, r->e->prefix, strlen(r->e->prefix));
}

static void end_template(run_t *r) {
    read_text(r, r->e->postfix, strlen(r->e->postfix));
}

static void read_tokens(run_t *r, trace_t *t, const RKLLMTokenInput *tokens) {
    const script_t *s = r->e->script;
    trace_text(t, "input", "tokens");
    trace_int(t, "n_tokens", (int64_t)tokens->n_tokens);
    if (tokens->input_ids == NULL || tokens->n_tokens == 0) {
        r->trouble = "input tokens are empty";
        return;
    }
    ids_append(&r->prompt, tokens->input_ids, tokens->n_tokens);
    for (size_t i = 0; i < r->prompt.count; i++) {
        if (r->prompt.at[i] < 0 || (s->vocab_size > 0 && r->prompt.at[i] >= s->vocab_size)) {
            r->trouble = "a token id is outside the vocabulary";
        }
    }
}

static void read_embeddings(run_t *r, trace_t *t, const RKLLMEmbedInput *embed) {
    size_t size = (size_t)r->e->script->embd_size;
    trace_text(t, "input", "embeddings");
    trace_int(t, "n_tokens", (int64_t)embed->n_tokens);
    if (embed->embed == NULL || embed->n_tokens == 0) {
        r->trouble = "input embeddings are empty";
        return;
    }
    trace_real(t, "first", embed->embed[0]);
    trace_real(t, "last", embed->embed[embed->n_tokens * size - 1]);
    read_rows(r, embed->embed, embed->n_tokens);
}

typedef struct {
    const char *mark;
    const float *rows;
    size_t per_mark;
    size_t marks;
} picture_t;

/* Text with marks in it; each mark becomes its rows. */
static void read_pictures(run_t *r, const char *prompt, const picture_t *pictures, size_t kinds) {
    size_t used[2] = {0, 0};
    const char *from = prompt;
    for (const char *p = prompt; *p;) {
        size_t kind = kinds;
        for (size_t k = 0; k < kinds; k++) {
            if (strncmp(p, pictures[k].mark, strlen(pictures[k].mark)) == 0) {
                kind = k;
            }
        }
        if (kind == kinds) {
            p++;
            continue;
        }
        const picture_t *picture = &pictures[kind];
        read_text(r, from, (size_t)(p - from));
        if (picture->rows == NULL || used[kind] == picture->marks) {
            r->trouble = "more marks in the prompt than embeddings";
            return;
        }
        size_t skip = used[kind]++ * picture->per_mark * (size_t)r->e->script->embd_size;
        read_rows(r, picture->rows + skip, picture->per_mark);
        p += strlen(picture->mark);
        from = p;
    }
    read_text(r, from, strlen(from));
    if (used[0] + used[1] == 0) {
        r->trouble = "no <image> or <video> mark in the prompt";
    }
}

static void trace_picture(trace_t *t, const char *key, const float *rows, size_t tokens, size_t count, size_t width,
                          size_t height) {
    trace_open(t, key, '{');
    trace_bool(t, "given", rows != NULL);
    trace_int(t, "n_tokens", (int64_t)tokens);
    trace_int(t, "count", (int64_t)count);
    trace_int(t, "width", (int64_t)width);
    trace_int(t, "height", (int64_t)height);
    trace_real(t, "first", rows ? rows[0] : 0);
}

static void read_multimodal(run_t *r, trace_t *t, const RKLLMMultiModalInput *m) {
    trace_text(t, "input", "multimodal");
    trace_text(t, "prompt", m->prompt);
    if (m->prompt == NULL) {
        r->trouble = "the prompt is NULL";
        return;
    }
    begin_template(r);
#if RKLLM_ABI >= ABI_1_3_0
    trace_picture(t, "image", m->image.image_embed, m->image.n_image_tokens, m->image.n_image, m->image.image_width,
                  m->image.image_height);
    trace_text(t, "start", m->image.image_start);
    trace_text(t, "end", m->image.image_end);
    trace_text(t, "content", m->image.image_content);
    trace_close(t, '}');
    trace_picture(t, "video", m->video.video_embed, m->video.n_frame_tokens, m->video.n_video, m->video.frame_width,
                  m->video.frame_height);
    trace_int(t, "frames", (int64_t)m->video.n_frame_per_video);
    trace_text(t, "start", m->video.video_start);
    trace_text(t, "end", m->video.video_end);
    trace_text(t, "content", m->video.video_content);
    trace_close(t, '}');
    const picture_t pictures[] = {
        {"<image>", m->image.image_embed, m->image.n_image_tokens, m->image.n_image},
        {"<video>", m->video.video_embed, m->video.n_frame_tokens * m->video.n_frame_per_video, m->video.n_video},
    };
    read_pictures(r, m->prompt, pictures, 2);
#else
#if HAS_IMAGE_COUNT
    size_t count = m->n_image, width = m->image_width, height = m->image_height;
#else
    size_t count = 1, width = 0, height = 0;
#endif
    trace_picture(t, "image", m->image_embed, m->n_image_tokens, count, width, height);
    trace_close(t, '}');
    const picture_t pictures[] = {{"<image>", m->image_embed, m->n_image_tokens, count}};
    read_pictures(r, m->prompt, pictures, 1);
#endif
    end_template(r);
}

static void read_input(run_t *r, trace_t *t) {
    const RKLLMInput *in = r->input;
#if HAS_ROLE
    trace_text(t, "role", in->role);
    trace_bool(t, "enable_thinking", in->enable_thinking);
    if (in->role != NULL && strcmp(in->role, "user") != 0 && strcmp(in->role, "tool") != 0) {
        r->trouble = "role must be `user` or `tool`";
        return;
    }
#endif
    switch (in->input_type) {
    case RKLLM_INPUT_PROMPT:
        trace_text(t, "input", "text");
        trace_text(t, "prompt", in->prompt_input);
        if (in->prompt_input == NULL) {
            r->trouble = "the prompt is NULL";
            return;
        }
        begin_template(r);
        read_text(r, in->prompt_input, strlen(in->prompt_input));
        end_template(r);
        return;
    case RKLLM_INPUT_TOKEN:
        read_tokens(r, t, &in->token_input);
        return;
    case RKLLM_INPUT_EMBED:
        read_embeddings(r, t, &in->embed_input);
        return;
    case RKLLM_INPUT_MULTIMODAL:
        read_multimodal(r, t, &in->multimodal_input);
        return;
    }
    r->trouble = "unknown input type";
}

static void read_infer(run_t *r, trace_t *t) {
    emulator_t *e = r->e;
    const RKLLMInferParam *p = r->infer;
    trace_int(t, "mode", p->mode);
    r->limit = e->max_new_tokens;
#if HAS_HISTORY
    r->keep_history = p->keep_history != 0;
    trace_int(t, "keep_history", p->keep_history);
#endif
#if HAS_SAMPLING_PER_RUN
    trace_int(t, "max_new_tokens", p->max_new_tokens);
    if (p->max_new_tokens > 0) {
        r->limit = p->max_new_tokens;
    }
    const RKLLMSamplingParam *sampling = p->sampling_params;
    if (sampling == NULL) {
        trace_null(t, "sampling");
    } else {
        trace_open(t, "sampling", '{');
        trace_int(t, "top_k", sampling->top_k);
        trace_real(t, "top_p", sampling->top_p);
        trace_real(t, "temperature", sampling->temperature);
        trace_real(t, "repeat_penalty", sampling->repeat_penalty);
        trace_real(t, "frequency_penalty", sampling->frequency_penalty);
        trace_real(t, "presence_penalty", sampling->presence_penalty);
        trace_int(t, "mirostat", sampling->mirostat);
        trace_real(t, "mirostat_tau", sampling->mirostat_tau);
        trace_real(t, "mirostat_eta", sampling->mirostat_eta);
        trace_close(t, '}');
    }
#endif
    trace_text(t, "lora", p->lora_params ? p->lora_params->lora_adapter_name : NULL);
    if (p->lora_params) {
        const char *name = p->lora_params->lora_adapter_name;
        bool found = false;
        for (size_t i = 0; name && i < e->lora_count; i++) {
            if (strcmp(e->loras[i].name, name) == 0) {
                r->lora = e->loras[i].effect;
                found = true;
            }
        }
        if (!found) {
            SAYF(e->script, 'E', "Not Found Lora adapter named %s", name ? name : "(null)");
            r->trouble = "unknown lora";
        }
    }
    const RKLLMPromptCacheParam *cache = p->prompt_cache_params;
    trace_bool(t, "save_prompt_cache", cache && cache->save_prompt_cache);
    trace_text(t, "prompt_cache_path", cache ? cache->prompt_cache_path : NULL);
}

static void trace_overlap(run_t *r, trace_t *t, bool handle, bool process) {
    const script_t *s = r->e->script;
    bool board = false;
    r->board = s->board ? open(s->board, O_RDWR | O_CREAT | O_CLOEXEC, 0644) : -1;
    if (r->board >= 0 && flock(r->board, LOCK_EX | LOCK_NB) != 0) {
        board = true;
    }
    trace_open(t, "overlap", '[');
    if (handle) {
        trace_text(t, NULL, "handle");
    }
    if (process) {
        trace_text(t, NULL, "process");
    }
    if (board) {
        trace_text(t, NULL, "board");
    }
    trace_close(t, ']');
}

static bool text_has(const script_t *s, const ids_t *ids, const char *needle, size_t *where) {
    bytes_t all = {NULL, 0};
    size_t room = 1;
    for (size_t i = 0; i < ids->count; i++) {
        room += script_text(s, ids->at[i]).count;
    }
    all.at = malloc(room);
    if (all.at == NULL) {
        abort();
    }
    for (size_t i = 0; i < ids->count; i++) {
        bytes_t text = script_text(s, ids->at[i]);
        memcpy(all.at + all.count, text.at, text.count);
        all.count += text.count;
    }
    bool found = false;
    size_t count = strlen(needle);
    for (size_t p = 0; p + count <= all.count; p++) {
        if (memcmp(all.at + p, needle, count) == 0) {
            found = true;
            *where = p + count;
        }
    }
    free(all.at);
    return found;
}

/* Whether this run has the script's fault, decided before it begins. */
static bool falls(const emulator_t *e, const ids_t *all) {
    const script_t *s = e->script;
    size_t where;
    if (s->fault == FAULT_NONE || (s->fault_on_run > 0 && s->fault_on_run != e->runs) ||
        (s->fault_when && !text_has(s, all, s->fault_when, &where))) {
        return false;
    }
    if (s->fault_once) {
        int file = open(s->fault_once, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (file < 0) {
            return false;
        }
        close(file);
    }
    return true;
}

/* Fall, if it is time. True when the run ends here with an ERROR. */
static bool fall_at(run_t *r, size_t made) {
    const script_t *s = r->e->script;
    if (!r->late || (int64_t)made != s->fault_after) {
        return false;
    }
    emulator_fall(s, s->fault);
    return s->fault == FAULT_ERROR;
}

/* The reply whose `when` stands last in the prompt; a reply without `when` if none does. NULL: no reply at all. */
static const reply_t *reply_for(const script_t *s, const ids_t *all) {
    const reply_t *best = NULL;
    size_t latest = 0;
    for (size_t i = 0; i < s->reply_count; i++) {
        const reply_t *reply = &s->replies[i];
        size_t where = 0;
        if (reply->when == NULL) {
            best = best ? best : reply;
        } else if (text_has(s, all, reply->when, &where) && where > latest) {
            latest = where;
            best = reply;
        }
    }
    return best;
}

static void reply_ids(run_t *r, const reply_t *reply, const ids_t *all, uint64_t hash, ids_t *out) {
    const script_t *s = r->e->script;
    if (reply->is_ids) {
        ids_append(out, reply->ids.at, reply->ids.count);
    } else {
        const char *from = reply->text.at;
        const char *mark;
        while ((mark = strstr(from, "{prompt_hash}")) != NULL) {
            char hex[17];
            snprintf(hex, sizeof hex, "%08llx", (unsigned long long)(hash & 0xffffffffu));
            script_tokenize(s, from, (size_t)(mark - from), out);
            script_tokenize(s, hex, strlen(hex), out);
            from = mark + strlen("{prompt_hash}");
        }
        script_tokenize(s, from, strlen(from), out);
    }
    if (!s->resume_replies) {
        return;
    }
    /* A prompt that ends with the beginning of the reply is a resumed one: go on behind it. */
    for (size_t n = out->count < all->count ? out->count : all->count; n > 0; n--) {
        if (memcmp(all->at + all->count - n, out->at, n * sizeof *out->at) == 0) {
            memmove(out->at, out->at + n, (out->count - n) * sizeof *out->at);
            out->count -= n;
            return;
        }
    }
}

/* Room for one more position; false when generation must stop. */
static bool make_room(run_t *r) {
    emulator_t *e = r->e;
    if ((int64_t)e->cache.count < e->max_context_len) {
        return true;
    }
    if (e->script->stop_when_full) {
        return false;
    }
    size_t from = e->n_keep > 0 && e->n_keep < e->max_context_len ? (size_t)e->n_keep : 0;
    size_t to = from + (e->cache.count - from + 1) / 2;
    SAYF(e->script, 'W', "context to be full[%zu], delete the kv cache in [%zu, %zu)", e->cache.count, from, to);
    memmove(e->cache.at + from, e->cache.at + to, (e->cache.count - to) * sizeof *e->cache.at);
    e->cache.count -= to - from;
    return true;
}

static uint64_t hash_all(uint64_t hash, const ids_t *ids, size_t count) {
    for (size_t i = 0; i < count; i++) {
        hash = speech_step(hash, ids->at[i]);
    }
    return hash;
}

static void generate(run_t *r, const ids_t *all, uint64_t hash) {
    emulator_t *e = r->e;
    const script_t *s = e->script;
    ids_t so_far = {0};
    ids_t reply = {0};
    size_t said = 0;
    bool ended = false;
    int64_t after_abort = 0;
    ids_append(&so_far, all->at, all->count);
    const reply_t *chosen = reply_for(s, all);
    if (chosen) {
        reply_ids(r, chosen, all, hash, &reply);
    }
    while (r->limit <= 0 || (int64_t)r->made.count < r->limit) {
        if (fall_at(r, r->made.count)) {
            r->status = -1;
            break;
        }
        int32_t id;
        if (chosen && said < reply.count) {
            id = reply.at[said++];
        } else if (chosen && !ended && s->eos.count > 0) {
            id = s->eos.at[0];
        } else if (chosen && s->eos.count == 0) {
            break;
        } else {
            id = speech_next(s, hash, so_far.at, so_far.count, all->count, !ended);
        }
        bool eos = script_is_eos(s, id);
        if (eos && !e->ignore_eos) {
            if (s->show_eos) {
                deliver_token(r, id, true);
            }
            break;
        }
        ended = ended || eos;
        /* What the first token is, prefill has found out: a step makes each one after it. */
        double step = s->decode_tokens_per_s > 0 && r->made.count > 0 ? 1.0 / s->decode_tokens_per_s : 0;
        bool heed = s->abort_after_tokens == 0;
        if (emulator_wait(e, step, heed) || (abort_wanted(e) && after_abort++ >= s->abort_after_tokens)) {
            r->aborted = true;
            break;
        }
        if (!make_room(r)) {
            break;
        }
        ids_push(&e->cache, id);
        ids_push(&so_far, id);
        ids_push(&r->made, id);
        hash = speech_step(hash, id);
        bool special = eos || ((size_t)id < s->token_count && s->tokens[id].special);
        deliver_token(r, id, special);
        if (r->paused) {
            break;
        }
    }
    ids_free(&so_far);
    ids_free(&reply);
}

/* Rows for the tokens that this run computed: all->at[reused ..]. One NORMAL callback. */
static void give_rows(run_t *r, const ids_t *all, uint64_t hash, bool logits) {
    const script_t *s = r->e->script;
    size_t width = logits ? logits_width(s) : (size_t)s->embd_size;
    size_t rows = all->count - r->reused;
    float *table = malloc(rows * width * sizeof *table);
    if (table == NULL) {
        abort();
    }
    hash = hash_all(hash, all, r->reused);
    for (size_t i = 0; i < rows; i++) {
        hash = speech_step(hash, all->at[r->reused + i]);
        if (logits) {
            int32_t next = speech_next(s, hash, all->at, r->reused + i + 1, all->count, true);
            speech_logits(hash, next, table + i * width, width);
        } else {
            speech_hidden(s, hash, table + i * width);
        }
    }
    LLMCallState state = RKLLM_RUN_NORMAL;
#if RKLLM_ABI == ABI_1_1
    state = RKLLM_RUN_GET_LAST_HIDDEN_LAYER;
#endif
    deliver(r, state, NULL, 0, logits ? NULL : table, logits ? table : NULL, rows, false);
    memset(table, 0xdd, rows * width * sizeof *table);
    free(table);
}

static size_t common(const ids_t *a, const ids_t *b) {
    size_t n = 0;
    while (n < a->count && n < b->count && a->at[n] == b->at[n]) {
        n++;
    }
    return n;
}

/* Everything between reading the input and the last callback. */
static void perform(run_t *r) {
    emulator_t *e = r->e;
    const script_t *s = e->script;
    ids_t all = {0};
    if (r->keep_history && e->history) {
        ids_append(&all, e->cache.at, e->cache.count);
    }
    ids_append(&all, r->prompt.at, r->prompt.count);
    int64_t longest = e->max_context_len - s->reserved_positions;
    if (r->trouble == NULL && (int64_t)all.count > longest) {
        SAYF(s, 'E', "the length of prompt is greater than max context (prompt: %zu tokens, max context: %lld)",
             all.count, (long long)longest);
        r->trouble = "prompt too long";
    }
    if (r->trouble != NULL) {
        SAYF(s, 'E', "%s", r->trouble);
        r->status = -1;
        ids_free(&all);
        return;
    }
    r->late = falls(e, &all);
    /* The last position is always computed: its output is what comes next. */
    r->reused = s->prefix_reuse ? common(&all, &e->cache) : 0;
    r->reused = r->reused == all.count ? r->reused - 1 : r->reused;
    r->prefilled = all.count - r->reused;
    if (r->reused > 0) {
        SAYF(s, 'I', "kv cache matches %zu / %zu tokens of prompt", r->reused, all.count);
    }
    if (s->fault_after == 0 && fall_at(r, 0)) {
        r->status = -1;
        ids_free(&all);
        return;
    }
    double prefill = s->prefill_tokens_per_s > 0 ? (double)r->prefilled / s->prefill_tokens_per_s : 0;
    emulator_wait(e, prefill, s->abort_cuts_prefill);
    e->cache.count = 0;
    ids_append(&e->cache, all.at, all.count);
    e->history = r->keep_history;
    uint64_t start = speech_start(s->seed) ^ r->lora;
    r->aborted = abort_wanted(e) && s->abort_after_tokens == 0;
    if (!r->aborted) {
        bool more = r->infer->mode == RKLLM_INFER_GENERATE;
        if (r->infer->mode == RKLLM_INFER_GET_LAST_HIDDEN_LAYER) {
            give_rows(r, &all, start, false);
        }
#if HAS_LOGITS
        if (r->infer->mode == RKLLM_INFER_GET_LOGITS) {
            give_rows(r, &all, start, true);
            more = s->logits_continue && !r->paused;
        }
#endif
        if (more) {
            generate(r, &all, hash_all(start, &all, all.count));
        }
    }
    const RKLLMPromptCacheParam *save = r->infer->prompt_cache_params;
    if (save && save->save_prompt_cache && r->status == 0 && !r->aborted) {
        const char *path = save->prompt_cache_path ? save->prompt_cache_path : "./prompt_cache.bin";
        if (!emulator_save_cache(e, path, all.count < e->cache.count ? all.count : e->cache.count)) {
            emulator_say(s, 'E', "failed to save the prompt cache");
        }
    }
    ids_free(&all);
}

/* #534: after a pause the next run resumes the old generation and does not read its prompt. */
static void resume_paused(run_t *r) {
    emulator_t *e = r->e;
    ids_t all = {0};
    ids_append(&all, e->cache.at, e->cache.count);
    e->paused = false;
    generate(r, &all, hash_all(speech_start(e->script->seed) ^ r->lora, &all, all.count));
    ids_free(&all);
}

static void *run_body(void *argument) {
    run_t *r = argument;
    emulator_t *e = r->e;
    const script_t *s = e->script;
    if (e->paused) {
        resume_paused(r);
    } else {
        perform(r);
    }
    if (r->status != 0) {
        deliver(r, RKLLM_RUN_ERROR, NULL, 0, NULL, NULL, 0, false);
    } else if (r->aborted) {
        emulator_say(s, 'W', "rkllm_run was aborted");
        if (s->finish_after_abort) {
            deliver(r, RKLLM_RUN_FINISH, "not to be read", 0, NULL, NULL, 0, true);
            r->finished = true;
        }
        r->status = (int)s->abort_status;
    } else if (r->paused) {
        e->paused = true;
    } else {
        deliver(r, RKLLM_RUN_FINISH, "not to be read", 0, NULL, NULL, 0, true);
        r->finished = true;
    }
    return NULL;
}

static int refuse_second_run(emulator_t *e) {
    trace_t t;
    emulator_trace(&t, e, "run");
    trace_open(&t, "overlap", '[');
    trace_text(&t, NULL, "handle");
    trace_close(&t, ']');
    trace_int(&t, "status", -1);
    trace_end(&t, e->script->trace);
    emulator_say(e->script, 'E', "a run is in progress on this handle");
    return -1;
}

EXPORT int rkllm_run(LLMHandle handle, RKLLMInput *input, RKLLMInferParam *infer, void *userdata) {
    emulator_t *e = emulator_of(handle);
    if (e == NULL || input == NULL || infer == NULL) {
        return -1;
    }
    const script_t *s = e->script;
    pthread_mutex_lock(&e->lock);
    bool busy = e->running;
    if (!busy) {
        e->running = true;
        e->abort_wanted = false;
    }
    pthread_mutex_unlock(&e->lock);
    if (busy) {
        return refuse_second_run(e);
    }
    bool crowded = atomic_fetch_add(&runs_in_process, 1) > 0;
    e->runs++;
    run_t r = {.e = e, .input = input, .infer = infer, .userdata = userdata, .board = -1};
    trace_t t;
    emulator_trace(&t, e, "run");
    trace_int(&t, "run", e->runs);
    trace_overlap(&r, &t, false, crowded);
    read_infer(&r, &t);
    read_input(&r, &t);
    trace_ids(&t, "ids", r.prompt.at, r.prompt.count);
    trace_end(&t, s->trace);
    if (s->init_fault == INIT_LATE_CRASH) {
        emulator_fall(s, FAULT_SEGFAULT);
    }
    pthread_t thread;
    if (s->foreign_thread && pthread_create(&thread, NULL, run_body, &r) == 0) {
        pthread_join(thread, NULL);
    } else {
        run_body(&r);
    }
    emulator_trace(&t, e, "run_end");
    trace_int(&t, "run", e->runs);
    trace_int(&t, "status", r.status);
    trace_bool(&t, "finished", r.finished);
    trace_bool(&t, "aborted", r.aborted);
    trace_int(&t, "reused", (int64_t)r.reused);
    trace_int(&t, "prefilled", (int64_t)r.prefilled);
    trace_int(&t, "released", r.released);
    trace_ids(&t, "generated", r.made.at, r.made.count);
    trace_end(&t, s->trace);
    if (r.board >= 0) {
        close(r.board);
    }
    free(r.pending.at);
    ids_free(&r.prompt);
    ids_free(&r.made);
    atomic_fetch_sub(&runs_in_process, 1);
    pthread_mutex_lock(&e->lock);
    e->running = false;
    e->abort_wanted = false;
    pthread_mutex_unlock(&e->lock);
    return r.status;
}

/* Known not to work in the field (#190, #320, #396); nothing here uses it. */
EXPORT int rkllm_run_async(LLMHandle handle, RKLLMInput *input, RKLLMInferParam *infer, void *userdata) {
    (void)handle;
    (void)input;
    (void)infer;
    (void)userdata;
    emulator_say(NULL, 'E', "rkllm_run_async is not emulated");
    return -1;
}
