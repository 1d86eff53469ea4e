/* A decoding step of GPT-2 in one call: each text's next token in, its logits out. And the draw of the tokens after that.

   Weights are int8 with a scale for each output, or bf16; keys and values are bf16; all sums are fp32. An output is
   always summed in the order of its inputs, so a row's bits depend neither on the rows beside it nor on the number of
   threads. Written for GCC and Clang with their vector types, which work on any processor. kernel.py compiles and calls
   it. */

#include <math.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define BLOCK 64 /* outputs that lie side by side in a packed matrix */

typedef float vfloat __attribute__((vector_size(4 * LANES)));
typedef int32_t vint __attribute__((vector_size(4 * LANES)));
typedef float vfloat_unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t vint_unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef uint16_t vhalf_unaligned __attribute__((vector_size(2 * LANES), aligned(2)));

enum { INT8, BF16 };

typedef struct {
    const void *weights; /* [n_out / BLOCK, n_in, BLOCK], the last block filled up with zeros */
    const float *scales; /* [n_out], for int8 */
    const float *bias;   /* [n_out], or null */
    int32_t n_in, n_out, format, unused;
} Matrix;

typedef struct {
    Matrix attention, out, widen, narrow;
    const float *norm_1, *shift_1, *norm_2, *shift_2; /* [width] */
} Layer;

typedef struct {
    const Layer *layers;
    const float *tokens, *positions; /* [vocabulary, width], [n_positions, width] */
    const float *norm, *shift;       /* [width] */
    Matrix head;
    int32_t n_layer, width, n_head, n_inner, n_tokens;
    float epsilon;
} Model;

typedef struct {
    uint16_t *cache; /* of this text, bf16: keys, then values; steps between its parts in numbers */
    int64_t layer_step, pair_step, head_step, slot_step;
    int64_t slot; /* where the token goes: its position */
} Row;

static inline vfloat load(const float *from) { return (vfloat) * (const vfloat_unaligned *)from; }
static inline void store(float *to, vfloat value) { *(vfloat_unaligned *)to = (vfloat_unaligned)value; }
static inline vfloat load_half(const uint16_t *from) {
    return (vfloat)(__builtin_convertvector(*(const vhalf_unaligned *)from, vint) << 16);
}
static inline float widen_half(uint16_t half) {
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
static inline uint16_t round_half(float value) { /* to the nearest bf16, of two the even one */
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded); /* not a number stays none */
}

static inline float add_up(vfloat value) {
#if LANES == 16
    typedef float vhalf __attribute__((vector_size(32)));
    vhalf half[2];
    memcpy(half, &value, sizeof half);
    const vhalf eight = half[0] + half[1];
#else
    const vfloat eight = value;
#endif
    typedef float vquarter __attribute__((vector_size(16)));
    vquarter quarter[2];
    memcpy(quarter, &eight, sizeof quarter);
    const vquarter four = quarter[0] + quarter[1];
    return (four[0] + four[2]) + (four[1] + four[3]);
}

static inline vfloat choose(vint mask, vfloat yes, vfloat no) { return (vfloat)(((vint)yes & mask) | ((vint)no & ~mask)); }

static inline vfloat exponential(vfloat x) { /* e^x to about 2 units in the last place (Cody and Waite 1980) */
    x = choose(x < -87.3f, (vfloat){0} - 87.3f, choose(x > 88.3f, (vfloat){0} + 88.3f, x));
    const vfloat shifted = x * 1.44269504f + 12582912.0f; /* rounds to an integer in the low bits */
    const vfloat whole = shifted - 12582912.0f;
    const vfloat r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    vfloat sum = r * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * r + 8.3334519073e-3f;
    sum = sum * r + 4.1665795894e-2f;
    sum = sum * r + 1.6666665459e-1f;
    sum = sum * r + 5.0000001201e-1f;
    sum = sum * r * r + r + 1.0f;
    vint power = ((vint)shifted << 23) + (127 << 23); /* the constant's own low bits are zero */
    return sum * (vfloat)power;
}

static inline vfloat gelu(vfloat x) { /* by the hyperbolic tangent, as GPT-2 has it: x times a logistic function */
    const vfloat inner = 1.5957691216f * (x + 0.044715f * x * x * x);
    return x / (1.0f + exponential(-inner));
}

/* A packed matrix has, for each block and input, BLOCK weights: as int32 words with four of int8 or two of bf16 each. Word
   w of int8 holds the outputs w, 16 + w, 32 + w and 48 + w, its lowest byte the first; of bf16 w and 16 + w, and from the
   17th on 32 + w and 48 + w. `part` is one of the BLOCK / LANES vectors that are unpacked from them. */

static inline __attribute__((always_inline)) vfloat unpack_int8(const void *from, int part) {
    const vint words = *((const vint_unaligned *)from + part / 4);
    return __builtin_convertvector((words << (24 - 8 * (part % 4))) >> 24, vfloat);
}

static inline __attribute__((always_inline)) vfloat unpack_bf16(const void *from, int part) {
    const vint words = *((const vint_unaligned *)from + part / 2);
    return (vfloat)(part % 2 ? words & (int32_t)0xffff0000 : words << 16);
}

/* The first of a part's outputs in its block. */
static inline int find_output(int format, int part) {
    const int halves = 16 / LANES;
    if (format == INT8) return part % 4 * 16 + part / 4 * LANES;
    return part / 2 / halves * 32 + part % 2 * 16 + part / 2 % halves * LANES;
}

/* ROWS rows times a block of outputs, in as many parts at a time as the registers allow: sums[row][output]. */
#define DEFINE_BLOCK(UNPACK, FORMAT, BYTES, ROWS, PARTS)                                                               \
    static void UNPACK##_##ROWS(const void *block, const float *const *x, int n_in, float *sums) {                     \
        _Pragma("GCC unroll 8") for (int first = 0; first < BLOCK / LANES; first += PARTS) {                           \
            vfloat total[ROWS][PARTS];                                                                                 \
            memset(total, 0, sizeof total);                                                                            \
            for (int i = 0; i < n_in; i++) {                                                                           \
                const char *weights = (const char *)block + (int64_t)i * BLOCK * BYTES;                                \
                _Pragma("GCC unroll 8") for (int part = 0; part < PARTS; part++) {                                     \
                    const vfloat weight = UNPACK(weights, first + part);                                               \
                    _Pragma("GCC unroll 8") for (int row = 0; row < ROWS; row++)                                       \
                        total[row][part] += weight * x[row][i];                                                        \
                }                                                                                                      \
            }                                                                                                          \
            for (int row = 0; row < ROWS; row++)                                                                       \
                for (int part = 0; part < PARTS; part++)                                                               \
                    store(sums + row * BLOCK + find_output(FORMAT, first + part), total[row][part]);                   \
        }                                                                                                              \
    }
#define DEFINE_BLOCKS(UNPACK, FORMAT, BYTES)                                                                           \
    DEFINE_BLOCK(UNPACK, FORMAT, BYTES, 1, (LANES == 16 ? 4 : 8))                                                      \
    DEFINE_BLOCK(UNPACK, FORMAT, BYTES, 2, 4)                                                                          \
    DEFINE_BLOCK(UNPACK, FORMAT, BYTES, 4, (LANES == 16 ? 4 : 2))

DEFINE_BLOCKS(unpack_int8, INT8, 1)
DEFINE_BLOCKS(unpack_bf16, BF16, 2)

typedef void (*BlockProduct)(const void *, const float *const *, int, float *);
static const BlockProduct PRODUCTS[2][3] = {
    {unpack_int8_1, unpack_int8_2, unpack_int8_4},
    {unpack_bf16_1, unpack_bf16_2, unpack_bf16_4},
};
static const int SIZES[3] = {1, 2, 4};

enum { STORE, ADD, GELU };

/* This thread's share of [rows, n_in] times the matrix, into `to` [rows, to_width]. */
static void multiply(const Matrix *matrix, const float *x, int rows, float *to, int64_t to_width, int how, int thread,
                     int n_threads) {
    const int n_blocks = (matrix->n_out + BLOCK - 1) / BLOCK;
    const int first = (int)((int64_t)n_blocks * thread / n_threads);
    const int last = (int)((int64_t)n_blocks * (thread + 1) / n_threads);
    const int64_t block_bytes = (int64_t)matrix->n_in * BLOCK * (matrix->format == INT8 ? 1 : 2);
    for (int block = first; block < last; block++) {
        const char *weights = (const char *)matrix->weights + block * block_bytes;
        const int start = block * BLOCK, width = matrix->n_out - start < BLOCK ? matrix->n_out - start : BLOCK;
        float scales[BLOCK], bias[BLOCK];
        for (int i = 0; i < BLOCK; i++) {
            scales[i] = i < width && matrix->format == INT8 ? matrix->scales[start + i] : 1;
            bias[i] = i < width && matrix->bias ? matrix->bias[start + i] : 0;
        }
        for (int row = 0; row < rows;) {
            const int size = rows - row >= 4 ? 2 : rows - row >= 2 ? 1 : 0;
            float sums[4 * BLOCK];
            const float *inputs[4];
            for (int i = 0; i < SIZES[size]; i++) inputs[i] = x + (int64_t)(row + i) * matrix->n_in;
            PRODUCTS[matrix->format][size](weights, inputs, matrix->n_in, sums);
            for (int i = 0; i < SIZES[size]; i++, row++) {
                float *target = to + row * to_width + start;
                for (int part = 0; part < BLOCK; part += LANES) {
                    vfloat value = load(sums + i * BLOCK + part) * load(scales + part) + load(bias + part);
                    store(sums + i * BLOCK + part, how == GELU ? gelu(value) : value);
                }
                if (how == ADD)
                    for (int j = 0; j < width; j++) target[j] += sums[i * BLOCK + j];
                else
                    memcpy(target, sums + i * BLOCK, (size_t)width * sizeof(float));
            }
        }
    }
}

static void normalise(const float *x, const float *gain, const float *shift, int width, float epsilon, float *to) {
    const int whole = width - width % LANES;
    vfloat sums = {0}, squares = {0};
    for (int i = 0; i < whole; i += LANES) sums += load(x + i);
    float sum = add_up(sums);
    for (int i = whole; i < width; i++) sum += x[i];
    const float mean = sum / width;
    for (int i = 0; i < whole; i += LANES) squares += (load(x + i) - mean) * (load(x + i) - mean);
    float square = add_up(squares);
    for (int i = whole; i < width; i++) square += (x[i] - mean) * (x[i] - mean);
    const float scale = 1 / sqrtf(square / width + epsilon);
    for (int i = 0; i < width; i++) to[i] = (x[i] - mean) * scale * gain[i] + shift[i];
}

/* Put a head's key and value into the row's slot. `qkv` has the row's queries, keys and values. */
static void keep(const Model *model, const Row *row, int layer, int head, const float *qkv) {
    const int size = model->width / model->n_head;
    uint16_t *keys = row->cache + layer * row->layer_step + head * row->head_step + row->slot * row->slot_step;
    uint16_t *values = keys + row->pair_step;
    const float *key = qkv + model->width + head * size, *value = key + model->width;
    for (int i = 0; i < size; i++) keys[i] = round_half(key[i]);
    for (int i = 0; i < size; i++) values[i] = round_half(value[i]);
}

/* One head's attention over all slots up to the row's own, whose key and value are kept. `weights` has room for as many
   floats as there are slots, and LANES more. */
static void attend(const Model *model, const Row *row, int layer, int head, const float *qkv, float *weights, float *to) {
    const int size = model->width / model->n_head, n_slots = (int)row->slot + 1;
    const uint16_t *keys = row->cache + layer * row->layer_step + head * row->head_step;
    const uint16_t *values = keys + row->pair_step;
    const float *query = qkv + head * size;
    const float scale = 1 / sqrtf((float)size);
    const int whole = size - size % LANES;
    float most = -INFINITY;
    for (int slot = 0; slot < n_slots; slot++) {
        const uint16_t *key = keys + slot * row->slot_step;
        vfloat sums = {0};
        for (int i = 0; i < whole; i += LANES) sums += load(query + i) * load_half(key + i);
        float score = add_up(sums);
        for (int i = whole; i < size; i++) score += query[i] * widen_half(key[i]);
        weights[slot] = score *= scale;
        most = score > most ? score : most;
    }
    for (int slot = n_slots; slot % LANES; slot++) weights[slot] = -INFINITY;
    vfloat sums = {0};
    for (int slot = 0; slot < n_slots; slot += LANES) {
        const vfloat share = exponential(load(weights + slot) - most);
        store(weights + slot, share);
        sums += share;
    }
    const float total = 1 / add_up(sums);
    int done = 0; /* several vectors at a time: each value is read from far memory once */
    for (; done + 4 * LANES <= whole; done += 4 * LANES) {
        vfloat sum[4];
        memset(sum, 0, sizeof sum);
        for (int slot = 0; slot < n_slots; slot++)
            for (int part = 0; part < 4; part++)
                sum[part] += weights[slot] * load_half(values + slot * row->slot_step + done + part * LANES);
        for (int part = 0; part < 4; part++) store(to + head * size + done + part * LANES, sum[part] * total);
    }
    for (int i = done; i < whole; i += LANES) {
        vfloat value = {0};
        for (int slot = 0; slot < n_slots; slot++) value += weights[slot] * load_half(values + slot * row->slot_step + i);
        store(to + head * size + i, value * total);
    }
    for (int i = whole; i < size; i++) {
        float value = 0;
        for (int slot = 0; slot < n_slots; slot++) value += weights[slot] * widen_half(values[slot * row->slot_step + i]);
        to[head * size + i] = value * total;
    }
}

/* Floats that `step` needs beside its arguments. */
int64_t epigone_count_scratch(const Model *model, int32_t rows, int64_t most_slots, int32_t n_threads) {
    const int64_t per_row = 6 * (int64_t)model->width + model->n_inner;
    return rows * per_row + (int64_t)n_threads * ((int64_t)rows * model->width + most_slots + 2 * LANES);
}

/* Read a token of each row and put the logits that follow into `logits`, [rows, vocabulary]. With `is_one_text` the rows
   are tokens of one text that follow each other, and only the last one's logits are computed. Returns 1, and reads
   nothing, where a token is unknown. */
int32_t epigone_step(const Model *model, const Row *rows, const int64_t *tokens, int32_t n_rows, float *logits,
                     float *scratch, int64_t most_slots, int32_t n_threads, int32_t is_one_text) {
    for (int row = 0; row < n_rows; row++)
        if (tokens[row] < 0 || tokens[row] >= model->n_tokens) return 1;
    const int width = model->width;
    float *x = scratch, *qkv = x + (int64_t)n_rows * width, *heads = qkv + 3 * (int64_t)n_rows * width;
    float *inner = heads + 2 * (int64_t)n_rows * width, *own = inner + (int64_t)n_rows * model->n_inner;
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
    {
#ifdef _OPENMP
        const int thread = omp_get_thread_num(), n_all = omp_get_num_threads();
#else
        const int thread = 0, n_all = 1;
#endif
        float *normal = own + thread * ((int64_t)n_rows * width + most_slots + 2 * LANES);
        float *weights = normal + (int64_t)n_rows * width;
        for (int row = thread; row < n_rows; row += n_all) {
            const float *token = model->tokens + tokens[row] * width;
            const float *position = model->positions + rows[row].slot * width;
            for (int i = 0; i < width; i++) x[row * width + i] = token[i] + position[i];
        }
#pragma omp barrier
        for (int number = 0; number < model->n_layer; number++) {
            const Layer *layer = model->layers + number;
            for (int row = 0; row < n_rows; row++)
                normalise(x + row * width, layer->norm_1, layer->shift_1, width, model->epsilon, normal + row * width);
            multiply(&layer->attention, normal, n_rows, qkv, 3 * width, STORE, thread, n_all);
#pragma omp barrier
            if (is_one_text) {
                for (int pair = thread; pair < n_rows * model->n_head; pair += n_all) {
                    const int row = pair / model->n_head;
                    keep(model, rows + row, number, pair % model->n_head, qkv + row * 3 * width);
                }
#pragma omp barrier
            }
            for (int pair = thread; pair < n_rows * model->n_head; pair += n_all) {
                const int row = pair / model->n_head, head = pair % model->n_head;
                if (!is_one_text) keep(model, rows + row, number, head, qkv + row * 3 * width);
                attend(model, rows + row, number, head, qkv + row * 3 * width, weights, heads + row * width);
            }
#pragma omp barrier
            multiply(&layer->out, heads, n_rows, x, width, ADD, thread, n_all);
#pragma omp barrier
            for (int row = 0; row < n_rows; row++)
                normalise(x + row * width, layer->norm_2, layer->shift_2, width, model->epsilon, normal + row * width);
            multiply(&layer->widen, normal, n_rows, inner, model->n_inner, GELU, thread, n_all);
#pragma omp barrier
            multiply(&layer->narrow, inner, n_rows, x, width, ADD, thread, n_all);
#pragma omp barrier
        }
        const int first = is_one_text ? n_rows - 1 : 0;
        for (int row = first; row < n_rows; row++)
            normalise(x + row * width, model->norm, model->shift, width, model->epsilon, normal + row * width);
        multiply(&model->head, normal + first * width, n_rows - first, logits, model->head.n_out, STORE, thread, n_all);
    }
    return 0;
}

/* What a score is worth at a temperature, as a share of the likeliest one's, in `shares`, filled up with zeros to whole
   blocks, and the sum of each block in `sums`. Returns the sum of all; not a positive number where that cannot be told. */
static double share_out(const float *scores, int64_t n_tokens, float temperature, float *shares, float *sums) {
    const int64_t n_blocks = (n_tokens + BLOCK - 1) / BLOCK;
    for (int64_t i = n_tokens; i < n_blocks * BLOCK; i++) shares[i] = -INFINITY;
    memcpy(shares, scores, (size_t)n_tokens * sizeof(float));
    vfloat largest = (vfloat){0} - INFINITY;
    for (int64_t i = 0; i < n_blocks * BLOCK; i += LANES) {
        const vfloat x = load(shares + i);
        largest = choose(x > largest, x, largest);
    }
    float most = -INFINITY;
    for (int i = 0; i < LANES; i++) most = largest[i] > most ? largest[i] : most;
    const float scale = 1 / temperature;
    double total = 0;
    for (int64_t block = 0; block < n_blocks; block++) {
        vfloat sum = {0};
        for (int64_t i = block * BLOCK; i < (block + 1) * BLOCK; i += LANES) {
            const vfloat x = (load(shares + i) - most) * scale;
            const vfloat share = choose(x < -87.3f, (vfloat){0}, exponential(x));
            store(shares + i, share);
            sum += share;
        }
        total += sums[block] = add_up(sum);
    }
    return total;
}

/* The token at this place of all shares one after another; it has a share. */
static int64_t find_token(const float *shares, const float *sums, int64_t n_blocks, double place) {
    double before = 0;
    int64_t block = 0;
    while (block < n_blocks - 1 && before + sums[block] <= place) before += sums[block++];
    int64_t token = block * BLOCK;
    for (int i = 0; i < BLOCK; i++) {
        const float share = shares[block * BLOCK + i];
        if (share <= 0) continue;
        token = block * BLOCK + i;
        before += share;
        if (before > place) break;
    }
    return token;
}

static float sum_above(const float *shares, int64_t n_blocks, float least) {
    vfloat sums = {0};
    for (int64_t i = 0; i < n_blocks * BLOCK; i += LANES) {
        const vfloat share = load(shares + i);
        sums += choose(share > least, share, (vfloat){0});
    }
    return add_up(sums);
}

/* A token for each row of scores, [rows, vocabulary]: drawn again where the likelier ones together have top_p of all
   probability, or where it has less than min_p of the likeliest one's. `how` has temperature, top_p and min_p of each
   row, `numbers` its next random numbers, of which `n_used` were; `shares` is room for the vocabulary and two blocks,
   and a 64th of it. A row whose numbers were not enough gets -1, and one without probabilities too, of whose numbers
   none were used. */
void epigone_draw(const float *scores, int32_t n_rows, int64_t n_tokens, const float *how, const double *const *numbers,
                  int32_t n_numbers, float *shares, int32_t *tokens, int32_t *n_used) {
    const int64_t n_blocks = (n_tokens + BLOCK - 1) / BLOCK;
    float *sums = shares + n_blocks * BLOCK;
    for (int row = 0; row < n_rows; row++) {
        const float top_p = how[3 * row + 1], min_p = how[3 * row + 2];
        const double total = share_out(scores + row * n_tokens, n_tokens, how[3 * row], shares, sums);
        tokens[row] = -1;
        n_used[row] = 0;
        if (!(total > 0 && total < INFINITY)) continue;
        while (tokens[row] < 0 && n_used[row] < n_numbers) {
            const int64_t token = find_token(shares, sums, n_blocks, numbers[row][n_used[row]++] * total);
            const float own = shares[token];
            const int is_likely = top_p == 1 || own > (1 - top_p) * total;
            if (own >= min_p && (is_likely || sum_above(shares, n_blocks, own) < top_p * total))
                tokens[row] = (int32_t)token;
        }
    }
}
