#include "speech.h"

#include <string.h>

#define FNV_BASIS 0xcbf29ce484222325u
#define FNV_PRIME 0x100000001b3u
#define END_SALT 0x7fffffff

uint64_t speech_start(uint64_t seed) {
    return FNV_BASIS ^ seed;
}

uint64_t speech_step(uint64_t hash, int32_t id) {
    uint32_t bits = (uint32_t)id;
    for (int i = 0; i < 4; i++) {
        hash = (hash ^ ((bits >> (8 * i)) & 0xff)) * FNV_PRIME;
    }
    return hash;
}

uint64_t speech_pick(uint64_t hash, uint64_t n) {
    return ((hash ^ (hash >> 32)) & 0xffffffffu) % n;
}

static size_t character_bytes(unsigned char lead) {
    if (lead >= 0xf0) {
        return 4;
    }
    if (lead >= 0xe0) {
        return 3;
    }
    return lead >= 0xc0 ? 2 : 1;
}

size_t speech_unfinished(const char *text, size_t count) {
    for (size_t back = 1; back <= 3 && back <= count; back++) {
        unsigned char c = (unsigned char)text[count - back];
        if ((c & 0xc0) != 0x80) {
            return character_bytes(c) > back ? back : 0;
        }
    }
    return 0;
}

/* The bytes of an unfinished character that the last ids spell, in bytes mode. */
static size_t unfinished_tail(const script_t *s, const int32_t *ids, size_t count, char tail[3]) {
    char bytes[3];
    size_t have = 0;
    while (have < 3 && have < count && ids[count - 1 - have] >= 0 && ids[count - 1 - have] < 256) {
        have++;
    }
    for (size_t i = 0; i < have; i++) {
        bytes[i] = (char)ids[count - have + i];
    }
    size_t open = s->bytes_mode ? speech_unfinished(bytes, have) : 0;
    memcpy(tail, bytes + have - open, open);
    return open;
}

static bool ends(const script_t *s, uint64_t hash, const int32_t *ids, size_t count, size_t prompt_count) {
    if (s->eos.count == 0) {
        return false;
    }
    if (s->answer_tokens > 0) {
        size_t begin = prompt_count;
        for (size_t i = count; s->answer_mark >= 0 && i > 0; i--) {
            if (ids[i - 1] == s->answer_mark) {
                begin = i;
                break;
            }
        }
        if (count - begin >= (size_t)s->answer_tokens) {
            return true;
        }
    }
    /* An answer has at least one token: nothing ends on the prompt itself. */
    return s->eos_every > 0 && count > prompt_count &&
           speech_pick(speech_step(hash, END_SALT), (uint64_t)s->eos_every) == 0;
}

int32_t speech_next(const script_t *s, uint64_t hash, const int32_t *ids, size_t count, size_t prompt_count,
                    bool may_end) {
    char tail[3];
    size_t open = unfinished_tail(s, ids, count, tail);
    if (open == 0 && may_end && ends(s, hash, ids, count, prompt_count)) {
        return s->eos.at[0];
    }
    if (s->alphabet_ids.count > 0) {
        return s->alphabet_ids.at[speech_pick(hash, s->alphabet_ids.count)];
    }
    if (!s->bytes_mode) {
        return (int32_t)speech_pick(hash, s->token_count);
    }
    /* Characters of the alphabet that begin with the open bytes; the byte that follows in the chosen one. */
    for (int pass = 0; pass < 2; pass++, open = 0) {
        size_t fitting = 0;
        for (int round = 0; round < 2; round++) {
            size_t wanted = round == 1 ? speech_pick(hash, fitting) : 0;
            size_t seen = 0;
            for (size_t p = 0; p < s->alphabet.count;) {
                size_t width = character_bytes((unsigned char)s->alphabet.at[p]);
                if (width > open && p + width <= s->alphabet.count && memcmp(s->alphabet.at + p, tail, open) == 0) {
                    if (round == 1 && seen == wanted) {
                        return (unsigned char)s->alphabet.at[p + open];
                    }
                    seen++;
                }
                p += width;
            }
            fitting = seen;
            if (fitting == 0) {
                break;
            }
        }
    }
    return (unsigned char)s->alphabet.at[0];
}

void speech_hidden(const script_t *s, uint64_t hash, float *row) {
    for (int64_t j = 0; j < s->embd_size; j++) {
        row[j] = ((float)speech_pick(speech_step(hash, (int32_t)j), 2001) - 1000.0f) / 1000.0f;
    }
}

void speech_logits(uint64_t hash, int32_t next, float *row, size_t vocab_size) {
    for (size_t v = 0; v < vocab_size; v++) {
        row[v] = ((float)speech_pick(speech_step(hash, (int32_t)v), 8001) - 4000.0f) / 1000.0f;
    }
    if (next >= 0 && (size_t)next < vocab_size) {
        row[next] = 10.0f;
    }
}
