/* The C interface of librkllmrt, per ABI family, as the measured layout facts give it.
 *
 * Written apart from the Python structures on purpose: `layout_asserts.h`, generated from the facts, holds every
 * size, offset and type of this file, so the two sides cannot share one misreading. Choose a family with
 * -DRKLLM_ABI=<one of the numbers below>. */
#ifndef RKLLM_ABI_H
#define RKLLM_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ABI_1_1 1
#define ABI_1_2_0 2
#define ABI_1_2_1B1 3
#define ABI_1_2_1 4
#define ABI_1_3_0 5

#if !defined(RKLLM_ABI) || RKLLM_ABI < ABI_1_1 || RKLLM_ABI > ABI_1_3_0
#error "define RKLLM_ABI as a number from 1 (abi-1.1) to 5 (abi-1.3.0)"
#endif

/* What a family has, in words. */
#define HAS_HISTORY (RKLLM_ABI >= ABI_1_2_0)
#define HAS_CPU_MASK (RKLLM_ABI >= ABI_1_2_0)
#define HAS_LOGITS (RKLLM_ABI >= ABI_1_2_0)
#define HAS_CHAT_TEMPLATE (RKLLM_ABI >= ABI_1_2_0)
#define HAS_IMAGE_COUNT (RKLLM_ABI >= ABI_1_2_1B1)
#define HAS_ROLE (RKLLM_ABI >= ABI_1_2_1)
#define HAS_PERF (RKLLM_ABI >= ABI_1_2_1)
#define HAS_BATCH (RKLLM_ABI >= ABI_1_2_1)
#define CALLBACK_RETURNS (RKLLM_ABI >= ABI_1_2_1)
#define HAS_SAMPLING_PER_RUN (RKLLM_ABI >= ABI_1_3_0)

typedef void *LLMHandle;

typedef enum {
    RKLLM_RUN_NORMAL = 0,
    RKLLM_RUN_WAITING = 1,
    RKLLM_RUN_FINISH = 2,
    RKLLM_RUN_ERROR = 3,
#if RKLLM_ABI == ABI_1_1
    RKLLM_RUN_GET_LAST_HIDDEN_LAYER = 4,
#endif
} LLMCallState;

typedef enum {
    RKLLM_INPUT_PROMPT = 0,
    RKLLM_INPUT_TOKEN = 1,
    RKLLM_INPUT_EMBED = 2,
    RKLLM_INPUT_MULTIMODAL = 3,
} RKLLMInputType;

typedef enum {
    RKLLM_INFER_GENERATE = 0,
    RKLLM_INFER_GET_LAST_HIDDEN_LAYER = 1,
#if HAS_LOGITS
    RKLLM_INFER_GET_LOGITS = 2,
#endif
} RKLLMInferMode;

typedef struct {
    int32_t base_domain_id;
#if HAS_CPU_MASK
    int8_t embed_flash;
    int8_t enabled_cpus_num;
    uint32_t enabled_cpus_mask;
#endif
#if HAS_BATCH
    uint8_t n_batch;
    int8_t use_cross_attn;
    uint8_t reserved[104];
#elif HAS_CPU_MASK
    uint8_t reserved[106];
#else
    uint8_t reserved[112];
#endif
} RKLLMExtendParam;

typedef struct {
    const char *model_path;
    int32_t max_context_len;
    int32_t max_new_tokens;
    int32_t top_k;
#if HAS_HISTORY
    int32_t n_keep;
#endif
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
    bool skip_special_token;
#if RKLLM_ABI >= ABI_1_3_0
    bool ignore_eos_token;
    bool is_async;
#else
    bool is_async;
    const char *img_start;
    const char *img_end;
    const char *img_content;
#endif
    RKLLMExtendParam extend_param;
} RKLLMParam;

typedef struct {
    const char *lora_adapter_path;
    const char *lora_adapter_name;
    float scale;
} RKLLMLoraAdapter;

typedef struct {
    float *embed;
    size_t n_tokens;
} RKLLMEmbedInput;

typedef struct {
    int32_t *input_ids;
    size_t n_tokens;
} RKLLMTokenInput;

#if RKLLM_ABI >= ABI_1_3_0
typedef struct {
    char *prompt;
    struct {
        float *image_embed;
        size_t n_image_tokens;
        size_t n_image;
        const char *image_start;
        const char *image_end;
        const char *image_content;
        size_t image_width;
        size_t image_height;
    } image;
    struct {
        float *video_embed;
        size_t n_frame_tokens;
        size_t n_frame_per_video;
        size_t n_video;
        const char *video_start;
        const char *video_end;
        const char *video_content;
        size_t frame_width;
        size_t frame_height;
    } video;
} RKLLMMultiModalInput;
#else
typedef struct {
    char *prompt;
    float *image_embed;
    size_t n_image_tokens;
#if HAS_IMAGE_COUNT
    size_t n_image;
    size_t image_width;
    size_t image_height;
#endif
} RKLLMMultiModalInput;
#endif

typedef struct {
#if HAS_ROLE
    const char *role;
    bool enable_thinking;
#endif
    RKLLMInputType input_type;
    union {
        const char *prompt_input;
        RKLLMEmbedInput embed_input;
        RKLLMTokenInput token_input;
        RKLLMMultiModalInput multimodal_input;
    };
} RKLLMInput;

typedef struct {
    const char *lora_adapter_name;
} RKLLMLoraParam;

typedef struct {
    int save_prompt_cache;
    const char *prompt_cache_path;
} RKLLMPromptCacheParam;

#if HAS_ROLE
typedef struct {
    float *encoder_k_cache;
    float *encoder_v_cache;
    float *encoder_mask;
    int32_t *encoder_pos;
    int num_tokens;
} RKLLMCrossAttnParam;
#endif

#if HAS_SAMPLING_PER_RUN
typedef struct {
    int32_t top_k;
    float top_p;
    float temperature;
    float repeat_penalty;
    float frequency_penalty;
    float presence_penalty;
    int32_t mirostat;
    float mirostat_tau;
    float mirostat_eta;
} RKLLMSamplingParam;
#endif

typedef struct {
    RKLLMInferMode mode;
    RKLLMLoraParam *lora_params;
    RKLLMPromptCacheParam *prompt_cache_params;
#if HAS_SAMPLING_PER_RUN
    RKLLMSamplingParam *sampling_params;
#endif
#if HAS_HISTORY
    int keep_history;
#endif
#if HAS_SAMPLING_PER_RUN
    int32_t max_new_tokens;
#endif
} RKLLMInferParam;

typedef struct {
    const float *hidden_states;
    int embd_size;
    int num_tokens;
} RKLLMResultLastHiddenLayer;

#if HAS_LOGITS
typedef struct {
    const float *logits;
    int vocab_size;
    int num_tokens;
} RKLLMResultLogits;
#endif

#if HAS_PERF
typedef struct {
    float prefill_time_ms;
    int prefill_tokens;
    float generate_time_ms;
    int generate_tokens;
    float memory_usage_mb;
} RKLLMPerfStat;
#endif

typedef struct {
    const char *text;
    int32_t token_id;
    RKLLMResultLastHiddenLayer last_hidden_layer;
#if HAS_LOGITS
    RKLLMResultLogits logits;
#endif
#if HAS_PERF
    RKLLMPerfStat perf;
#endif
} RKLLMResult;

#if CALLBACK_RETURNS
typedef int (*LLMResultCallback)(RKLLMResult *result, void *userdata, LLMCallState state);
#else
typedef void (*LLMResultCallback)(RKLLMResult *result, void *userdata, LLMCallState state);
#endif

#if RKLLM_ABI >= ABI_1_3_0
typedef int (*LLMTokenizerCallback)(void *, const char *, int32_t, int32_t *, int32_t);
typedef int (*LLMGetEmbedCallback)(void *, int32_t *, uint64_t, void *, uint64_t);

typedef struct {
    LLMResultCallback result_callback;
    void *result_userdata;
    LLMTokenizerCallback tokenizer_callback;
    void *tokenizer_userdata;
    LLMGetEmbedCallback embed_callback;
    void *embed_userdata;
} RKLLMCallback;
#endif

#endif
