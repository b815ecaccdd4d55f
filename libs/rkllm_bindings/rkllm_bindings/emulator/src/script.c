/* Reads model files. Everything a script can say is one row of the tables in `set`. */
#include "script.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC "rkllm-emulator 1"
#define DIGEST_BYTES (1 << 20)
#define DEFAULT_ALPHABET "etaoin srhldcu etaoin .,"
#define MAX_ID (1 << 22)

static void *must(void *memory) {
    if (memory == NULL) {
        abort();
    }
    return memory;
}

char *script_copy(const char *text) {
    return must(strdup(text ? text : ""));
}

void ids_push(ids_t *ids, int32_t id) {
    if (ids->count == ids->room) {
        ids->room = ids->room ? ids->room * 2 : 64;
        ids->at = must(realloc(ids->at, ids->room * sizeof *ids->at));
    }
    ids->at[ids->count++] = id;
}

void ids_append(ids_t *ids, const int32_t *more, size_t count) {
    for (size_t i = 0; i < count; i++) {
        ids_push(ids, more[i]);
    }
}

void ids_free(ids_t *ids) {
    free(ids->at);
    *ids = (ids_t){0};
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)tolower((unsigned char)c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \n \r \t \s (space) \\ \xHH; anything else behind a backslash stands for itself. */
static bytes_t unescape(const char *value) {
    bytes_t out = {must(malloc(strlen(value) + 1)), 0};
    for (const char *p = value; *p; p++) {
        char c = *p;
        if (c == '\\' && p[1]) {
            p++;
            switch (*p) {
            case 'n': c = '\n'; break;
            case 'r': c = '\r'; break;
            case 't': c = '\t'; break;
            case 's': c = ' '; break;
            case 'x':
                if (hex_digit(p[1]) >= 0 && hex_digit(p[2]) >= 0) {
                    c = (char)(hex_digit(p[1]) * 16 + hex_digit(p[2]));
                    p += 2;
                    break;
                }
                /* fall through */
            default: c = *p;
            }
        }
        out.at[out.count++] = c;
    }
    out.at[out.count] = '\0';
    return out;
}

static char *text_of(const char *value) {
    return unescape(value).at;
}

static void set_token(script_t *s, size_t id, bytes_t text, bool special) {
    if (id >= s->token_count) {
        s->tokens = must(realloc(s->tokens, (id + 1) * sizeof *s->tokens));
        memset(s->tokens + s->token_count, 0, (id + 1 - s->token_count) * sizeof *s->tokens);
        s->token_count = id + 1;
    }
    free(s->tokens[id].text.at);
    s->tokens[id] = (token_t){text, special};
}

static void byte_tokens(script_t *s) {
    for (int b = 0; b < 256; b++) {
        bytes_t one = {must(malloc(2)), 1};
        one.at[0] = (char)b;
        one.at[1] = '\0';
        set_token(s, (size_t)b, one, false);
    }
}

/* One token a line, escaped; line 1 is id 0. */
static bool read_vocabulary(script_t *s, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return false;
    }
    for (size_t i = 0; i < s->token_count; i++) {
        free(s->tokens[i].text.at);
    }
    s->token_count = 0;
    s->bytes_mode = false;
    char *line = NULL;
    size_t room = 0;
    ssize_t got;
    size_t id = 0;
    while ((got = getline(&line, &room, file)) >= 0) {
        while (got > 0 && (line[got - 1] == '\n' || line[got - 1] == '\r')) {
            line[--got] = '\0';
        }
        set_token(s, id++, unescape(line), false);
    }
    free(line);
    fclose(file);
    return id > 0;
}

static bool parse_ids(const char *value, ids_t *out) {
    out->count = 0;
    for (const char *p = value; *p;) {
        if (isspace((unsigned char)*p) || *p == ',') {
            p++;
            continue;
        }
        char *end;
        long id = strtol(p, &end, 10);
        if (end == p) {
            return false;
        }
        ids_push(out, (int32_t)id);
        p = end;
    }
    return true;
}

/* Name -> number, for the keys whose value is a word; -1 for a word not in the list. */
static int word_in(const char *value, const char *const *words) {
    for (int i = 0; words[i]; i++) {
        if (strcmp(value, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static const char *const INIT_WORDS[] = {"none", "fail", "late_crash", "segfault", NULL};
static const char *const FAULT_WORDS[] = {"none", "abort", "segfault", "exit", "hang", "error", NULL};
static const char *const UTF8_WORDS[] = {"joined", "split", NULL};
static const char *const PREFILL_WORDS[] = {"late", "prompt", NULL};
static const char *const FULL_WORDS[] = {"shift", "stop", NULL};

static reply_t *new_reply(script_t *s, const char *when) {
    s->replies = must(realloc(s->replies, (s->reply_count + 1) * sizeof *s->replies));
    reply_t *reply = &s->replies[s->reply_count++];
    *reply = (reply_t){.when = when ? must(strdup(when)) : NULL};
    return reply;
}

static bool set_number(script_t *s, const char *key, const char *value, bool *known) {
    const struct { const char *key; double *to; } reals[] = {
        {"load_ms", &s->load_ms},
        {"restore_ms", &s->restore_ms},
        {"memory_mb", &s->memory_mb},
        {"prefill_tokens_per_s", &s->prefill_tokens_per_s},
        {"decode_tokens_per_s", &s->decode_tokens_per_s},
        {"clock", &s->clock},
    };
    const struct { const char *key; int64_t *to; } whole[] = {
        {"context_limit", &s->context_limit},
        {"npu_cores", &s->npu_cores},
        {"vocab_size", &s->vocab_size},
        {"embd_size", &s->embd_size},
        {"eos_every", &s->eos_every},
        {"answer_tokens", &s->answer_tokens},
        {"answer_mark", &s->answer_mark},
        {"fault_after", &s->fault_after},
        {"fault_on_run", &s->fault_on_run},
        {"abort_after_tokens", &s->abort_after_tokens},
        {"abort_status", &s->abort_status},
        {"reserved_positions", &s->reserved_positions},
    };
    const struct { const char *key; bool *to; } flags[] = {
        {"log", &s->log},
        {"show_eos", &s->show_eos},
        {"ignore_eos", &s->ignore_eos},
        {"resume_replies", &s->resume_replies},
        {"finish_after_abort", &s->finish_after_abort},
        {"prefix_reuse", &s->prefix_reuse},
        {"prompt_cache_works", &s->prompt_cache_works},
        {"logits_continue", &s->logits_continue},
        {"foreign_thread", &s->foreign_thread},
    };
    char *end;
    *known = true;
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        if (strcmp(key, reals[i].key) == 0) {
            *reals[i].to = strtod(value, &end);
            return end != value && *end == '\0' && *reals[i].to >= 0;
        }
    }
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
        if (strcmp(key, whole[i].key) == 0) {
            *whole[i].to = strtoll(value, &end, 10);
            return end != value && *end == '\0';
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        if (strcmp(key, flags[i].key) == 0) {
            *flags[i].to = strcmp(value, "1") == 0;
            return strcmp(value, "1") == 0 || strcmp(value, "0") == 0;
        }
    }
    *known = false;
    return false;
}

static bool set_text(script_t *s, const char *key, const char *value, bool *known) {
    const struct { const char *key; char **to; } texts[] = {
        {"platform", &s->platform},
        {"target_platform", &s->target_platform},
        {"toolkit_version", &s->toolkit_version},
        {"driver_version", &s->driver_version},
        {"model_dtype", &s->model_dtype},
        {"template_system", &s->template_system},
        {"template_prefix", &s->template_prefix},
        {"template_postfix", &s->template_postfix},
        {"fault_when", &s->fault_when},
        {"fault_once", &s->fault_once},
        {"trace", &s->trace},
        {"board", &s->board},
    };
    *known = true;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (strcmp(key, texts[i].key) == 0) {
            free(*texts[i].to);
            *texts[i].to = text_of(value);
            return true;
        }
    }
    *known = false;
    return false;
}

static bool set_word(script_t *s, const char *key, const char *value, bool *known) {
    int word = -1;
    *known = true;
    if (strcmp(key, "init_fault") == 0) {
        word = word_in(value, INIT_WORDS);
        s->init_fault = word < 0 ? INIT_OK : (init_fault_t)word;
    } else if (strcmp(key, "fault") == 0) {
        word = word_in(value, FAULT_WORDS);
        s->fault = word < 0 ? FAULT_NONE : (fault_t)word;
    } else if (strcmp(key, "destroy_fault") == 0) {
        word = word_in(value, FAULT_WORDS);
        s->destroy_fault = word < 0 ? FAULT_NONE : (fault_t)word;
    } else if (strcmp(key, "utf8") == 0) {
        word = word_in(value, UTF8_WORDS);
        s->split_utf8 = word == 1;
    } else if (strcmp(key, "abort_in_prefill") == 0) {
        word = word_in(value, PREFILL_WORDS);
        s->abort_cuts_prefill = word == 1;
    } else if (strcmp(key, "context_full") == 0) {
        word = word_in(value, FULL_WORDS);
        s->stop_when_full = word == 1;
    } else {
        *known = false;
    }
    return word >= 0;
}

static bool set_speech(script_t *s, const char *key, const char *value, char **when, bool *known) {
    *known = true;
    if (strcmp(key, "when") == 0) {
        free(*when);
        *when = strcmp(value, "*") == 0 ? NULL : text_of(value);
        return true;
    }
    if (strcmp(key, "reply") == 0) {
        new_reply(s, *when)->text = unescape(value);
        return true;
    }
    if (strcmp(key, "reply_tokens") == 0) {
        reply_t *reply = new_reply(s, *when);
        reply->is_ids = true;
        return parse_ids(value, &reply->ids);
    }
    if (strcmp(key, "alphabet") == 0) {
        free(s->alphabet.at);
        s->alphabet = unescape(value);
        return s->alphabet.count > 0;
    }
    if (strcmp(key, "alphabet_ids") == 0) {
        return parse_ids(value, &s->alphabet_ids) && s->alphabet_ids.count > 0;
    }
    if (strcmp(key, "eos") == 0) {
        return parse_ids(value, &s->eos);
    }
    if (strcmp(key, "seed") == 0) {
        char *end;
        s->seed = strtoull(value, &end, 0);
        return end != value && *end == '\0';
    }
    if (strcmp(key, "vocabulary") == 0) {
        char *path = text_of(value);
        bool good = read_vocabulary(s, path);
        free(path);
        return good;
    }
    if (strcmp(key, "special") == 0) {
        char *end;
        long id = strtol(value, &end, 10);
        if (end == value || *end != ' ' || id < 0 || id > MAX_ID) {
            return false;
        }
        set_token(s, (size_t)id, unescape(end + 1), true);
        return true;
    }
    *known = false;
    return false;
}

static bool set(script_t *s, const char *key, const char *value, char **when, bool *known) {
    bool good = set_number(s, key, value, known);
    if (!*known) {
        good = set_text(s, key, value, known);
    }
    if (!*known) {
        good = set_word(s, key, value, known);
    }
    if (!*known) {
        good = set_speech(s, key, value, when, known);
    }
    return good;
}

static char *trim(char *text) {
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t count = strlen(text);
    while (count > 0 && isspace((unsigned char)text[count - 1])) {
        text[--count] = '\0';
    }
    return text;
}

static bool parse(script_t *s, FILE *file, char *why, size_t room) {
    char *line = NULL;
    size_t line_room = 0;
    char *when = NULL;
    int number = 0;
    bool good = true;
    while (good && getline(&line, &line_room, file) >= 0) {
        number++;
        char *text = trim(line);
        if (number == 1 || *text == '\0' || *text == '#') {
            continue;
        }
        char *equals = strchr(text, '=');
        bool known = true;
        if (equals == NULL) {
            good = false;
        } else {
            *equals = '\0';
            good = set(s, trim(text), trim(equals + 1), &when, &known);
        }
        if (!good) {
            snprintf(why, room, "script line %d: %s `%s`", number,
                     equals == NULL ? "no `key = value` in" : known ? "bad value for" : "unknown key", text);
        }
    }
    free(when);
    free(line);
    return good;
}

static uint64_t digest_of(FILE *file) {
    uint64_t digest = 0xcbf29ce484222325u;
    long read = 0;
    int c;
    while (read < DIGEST_BYTES && (c = fgetc(file)) != EOF) {
        digest = (digest ^ (uint64_t)(unsigned char)c) * 0x100000001b3u;
        read++;
    }
    fseek(file, 0, SEEK_END);
    return (digest ^ (uint64_t)ftell(file)) * 0x100000001b3u;
}

script_t *script_read(const char *path, const char *runtime_version, bool reuse, char *why, size_t room) {
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (file == NULL) {
        snprintf(why, room, "cannot open the model file: %s", path ? strerror(errno) : "no path");
        return NULL;
    }
    char head[sizeof MAGIC - 1];
    size_t got = fread(head, 1, sizeof head, file);
    if (got == 0) {
        snprintf(why, room, "the model file is empty");
        fclose(file);
        return NULL;
    }
    script_t *s = must(calloc(1, sizeof *s));
    s->bytes_mode = true;
    s->context_limit = 16384;
    s->npu_cores = 3;
    s->platform = text_of("RK3588");
    s->target_platform = text_of("RK3588");
    s->toolkit_version = must(strdup(runtime_version));
    s->driver_version = text_of("0.9.8");
    s->model_dtype = text_of("W8A8");
    s->log = true;
    s->memory_mb = 512;
    s->embd_size = 64;
    s->clock = 1;
    s->alphabet = unescape(DEFAULT_ALPHABET);
    s->answer_mark = -1;
    s->template_system = text_of("");
    s->template_prefix = text_of("");
    s->template_postfix = text_of("");
    s->finish_after_abort = true;
    s->prefix_reuse = reuse;
    s->prompt_cache_works = true;
    s->reserved_positions = 4;
    byte_tokens(s);
    ids_push(&s->eos, 256);
    rewind(file);
    s->digest = digest_of(file);
    rewind(file);
    if (got == sizeof head && memcmp(head, MAGIC, sizeof head) == 0) {
        if (!parse(s, file, why, room)) {
            script_free(s);
            s = NULL;
        }
    } else {
        /* Not a script: somebody's weights, or anything at all. It speaks, ends by itself, and unlike another file. */
        s->seed = s->digest;
        s->eos_every = 64;
    }
    fclose(file);
    if (s != NULL && s->clock <= 0) {
        s->clock = 1;
    }
    return s;
}

void script_free(script_t *s) {
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->token_count; i++) {
        free(s->tokens[i].text.at);
    }
    for (size_t i = 0; i < s->reply_count; i++) {
        free(s->replies[i].when);
        free(s->replies[i].text.at);
        ids_free(&s->replies[i].ids);
    }
    char *texts[] = {
        s->platform, s->target_platform, s->toolkit_version, s->driver_version, s->model_dtype, s->template_system,
        s->template_prefix, s->template_postfix, s->fault_when, s->fault_once, s->trace, s->board, s->alphabet.at,
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        free(texts[i]);
    }
    free(s->tokens);
    free(s->replies);
    ids_free(&s->eos);
    ids_free(&s->alphabet_ids);
    free(s);
}

bytes_t script_text(const script_t *s, int32_t id) {
    if (id < 0 || (size_t)id >= s->token_count || s->tokens[id].text.at == NULL) {
        return (bytes_t){"", 0};
    }
    return s->tokens[id].text;
}

void script_tokenize(const script_t *s, const char *text, size_t count, ids_t *out) {
    for (size_t p = 0; p < count;) {
        size_t best = 0;
        int32_t id = -1;
        for (size_t i = 0; i < s->token_count; i++) {
            bytes_t token = s->tokens[i].text;
            if (token.count > best && token.count <= count - p && memcmp(token.at, text + p, token.count) == 0) {
                best = token.count;
                id = (int32_t)i;
            }
        }
        if (id >= 0) {
            ids_push(out, id);
        }
        p += best ? best : 1;
    }
}

bool script_is_eos(const script_t *s, int32_t id) {
    for (size_t i = 0; i < s->eos.count; i++) {
        if (s->eos.at[i] == id) {
            return true;
        }
    }
    return false;
}
