// SPDX-License-Identifier: Apache-2.0
// What one core of this machine can do at most, as JSON: float32 and int8 multiply-adds, byte look-ups out of registers, bytes
// read from the caches and from memory. bench/compare.py runs it in the same run as the engines: a speed means little without.
//
//     cc -O2 -o build/bench/peaks bench/peaks.c && build/bench/peaks

#include <stdio.h>

#if defined(__x86_64__)
#include <immintrin.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_CHAINS = 12, N_STEPS = 200000, N_TURNS = 40 };

static volatile int sink; // what keeps the loops from being left out

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Each runs N_STEPS steps of N_CHAINS independent chains, named one by one so that each has a register. The empty asm makes a
// chain's value opaque to the compiler.
#define EACH(X) X(c0) X(c1) X(c2) X(c3) X(c4) X(c5) X(c6) X(c7) X(c8) X(c9) X(c10) X(c11)
#define OPAQUE(c) __asm__ volatile("" : "+v"(c));
#define LOOP(type, name, target_name, start, step)                                                                                         \
    __attribute__((target(target_name))) static void name(void)                                                                            \
    {                                                                                                                                      \
        type a = start, b = start;                                                                                                         \
        OPAQUE(a) OPAQUE(b) type c0 = a, c1 = a, c2 = a, c3 = a, c4 = a, c5 = a, c6 = a, c7 = a, c8 = a, c9 = a, c10 = a, c11 = a;         \
        for (int s = 0; s < N_STEPS; s++) {                                                                                                \
            EACH(step)                                                                                                                     \
            EACH(OPAQUE)                                                                                                                   \
        }                                                                                                                                  \
    }

#define FMA_256(c) c = _mm256_fmadd_ps(a, b, c);
#define INT8_256(c)                                                                                                                        \
    c = _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), a));                                                             \
    OPAQUE(a)
#define LOOKUP_256(c) c = _mm256_shuffle_epi8(a, c);
#define FMA_512(c) c = _mm512_fmadd_ps(a, b, c);
#define INT8_512(c) c = _mm512_dpbusd_epi32(c, a, b);
#define LOOKUP_512(c) c = _mm512_permutex2var_epi8(a, c, b);
// Looks up and adds words: an even output's entry with 256 times the odd one's, then the odd one's.
#define LOOKUP_SUM_256(c)                                                                                                                  \
    {                                                                                                                                      \
        const __m256i entries = _mm256_shuffle_epi8(a, b);                                                                                 \
        c = _mm256_add_epi16(_mm256_add_epi16(c, entries), _mm256_srli_epi16(entries, 8));                                                 \
        OPAQUE(b)                                                                                                                          \
    }
#define LOOKUP_SUM_512(c)                                                                                                                  \
    {                                                                                                                                      \
        const __m512i entries = _mm512_permutex2var_epi8(a, b, a);                                                                         \
        c = _mm512_add_epi16(_mm512_add_epi16(c, entries), _mm512_srli_epi16(entries, 8));                                                 \
        OPAQUE(b)                                                                                                                          \
    }
LOOP(__m256, fma_avx2, "avx2,fma", _mm256_set1_ps(0.5f), FMA_256)
LOOP(__m256i, int8_avx2, "avx2", _mm256_set1_epi8(1), INT8_256)
LOOP(__m256i, lookup_avx2, "avx2", _mm256_set1_epi8(1), LOOKUP_256)
LOOP(__m256i, lookup_sum_avx2, "avx2", _mm256_set1_epi8(1), LOOKUP_SUM_256)
LOOP(__m512, fma_avx512, "avx512f", _mm512_set1_ps(0.5f), FMA_512)
LOOP(__m512i, int8_avx512, "avx512f,avx512bw,avx512vnni", _mm512_set1_epi8(1), INT8_512)
LOOP(__m512i, lookup_avx512, "avx512f,avx512bw,avx512vbmi", _mm512_set1_epi8(1), LOOKUP_512)
LOOP(__m512i, lookup_sum_avx512, "avx512f,avx512bw,avx512vbmi", _mm512_set1_epi8(1), LOOKUP_SUM_512)

// Billions a second at the best of N_TURNS turns: `per_step` of them in each step of a chain.
static double rate(void (*loop)(void), int per_step)
{
    double best = 1e9;
    for (int turn = 0; turn < N_TURNS; turn++) {
        const double start = seconds();
        loop();
        const double time = seconds() - start;
        best = time < best ? time : best;
    }
    return 1e-9 * N_STEPS * N_CHAINS * per_step / best;
}

__attribute__((target("avx2"))) static double read_rate(size_t n_bytes)
{
    unsigned char *bytes = aligned_alloc(64, n_bytes);
    if (!bytes)
        return 0;
    memset(bytes, 1, n_bytes);
    const int n_turns = n_bytes > (size_t)32 << 20 ? 12 : (int)(((size_t)256 << 20) / n_bytes) + 2;
    double best = 1e9;
    for (int turn = 0; turn < n_turns; turn++) {
        const double start = seconds();
        __m256i sum = _mm256_setzero_si256(), other = sum;
        for (const __m256i *v = (const __m256i *)bytes; v != (const __m256i *)(bytes + n_bytes); v += 4) {
            sum = _mm256_or_si256(sum, _mm256_or_si256(v[0], v[1]));
            other = _mm256_or_si256(other, _mm256_or_si256(v[2], v[3]));
        }
        sink += _mm256_extract_epi8(_mm256_or_si256(sum, other), 0);
        const double time = seconds() - start;
        best = time < best ? time : best;
    }
    free(bytes);
    return 1e-9 * (double)n_bytes / best;
}

int main(void)
{
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), avx512 = __builtin_cpu_supports("avx512bw");
    const int vnni = avx512 && __builtin_cpu_supports("avx512vnni"), vbmi = avx512 && __builtin_cpu_supports("avx512vbmi");
    if (!avx2) {
        puts("{}");
        return 0;
    }
    printf("{\"float32_g\": %.1f, \"int8_g\": %.1f, \"lookup_g\": %.1f, ", avx512 ? rate(fma_avx512, 16) : rate(fma_avx2, 8),
           vnni ? rate(int8_avx512, 64) : rate(int8_avx2, 32), vbmi ? rate(lookup_avx512, 64) : rate(lookup_avx2, 32));
    printf("\"float32_avx2_g\": %.1f, \"int8_avx2_g\": %.1f, \"lookup_avx2_g\": %.1f, ", rate(fma_avx2, 8), rate(int8_avx2, 32),
           rate(lookup_avx2, 32));
    printf("\"lookup_sum_g\": %.1f, \"lookup_sum_avx2_g\": %.1f, ", vbmi ? rate(lookup_sum_avx512, 64) : rate(lookup_sum_avx2, 32),
           rate(lookup_sum_avx2, 32));
    printf("\"read_512k_gb\": %.1f, \"read_8m_gb\": %.1f, \"read_256m_gb\": %.1f, ", read_rate((size_t)512 << 10),
           read_rate((size_t)8 << 20), read_rate((size_t)256 << 20));
    printf("\"instructions\": \"%s\"}\n", vnni && vbmi ? "AVX-512 VNNI VBMI" : avx512 ? "AVX-512" : "AVX2");
    return 0;
}

#else

int main(void)
{
    puts("{}"); // nobody has measured these processors yet
    return 0;
}

#endif
