/* What the emulated model says: pure functions of all token ids so far. `_reference.py` says the same in Python. */
#ifndef SPEECH_H
#define SPEECH_H

#include "script.h"

/* The hash of a list of ids: FNV-1a over their four little-endian bytes, so it grows id by id. */
uint64_t speech_start(uint64_t seed);
uint64_t speech_step(uint64_t hash, int32_t id);
/* 0 .. n-1 */
uint64_t speech_pick(uint64_t hash, uint64_t n);

/* The id that follows `ids`, whose hash is `hash`. `prompt_count`: where the answer began if no mark says so.
 * `may_end`: whether the answer may end here; without it the id is never an EOS. */
int32_t speech_next(const script_t *s, uint64_t hash, const int32_t *ids, size_t count, size_t prompt_count,
                    bool may_end);

/* The hidden state of the last of the ids whose hash is `hash`: embd_size floats in [-1, 1]. */
void speech_hidden(const script_t *s, uint64_t hash, float *row);
/* Logits behind the same ids: 10 for `next`, else in [-4, 4]. */
void speech_logits(uint64_t hash, int32_t next, float *row, size_t vocab_size);

/* Bytes at the end of `text` that begin a UTF-8 character without ending it. */
size_t speech_unfinished(const char *text, size_t count);

#endif
