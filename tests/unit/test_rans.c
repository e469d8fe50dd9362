// SPDX-License-Identifier: Apache-2.0
// Entropy coding: what is coded comes back, in about as many bits as the entropy says, and damage never leads out of bounds.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/rng.h"
#include "coding/encode.h"
#include "coding/rans_encode.h"
#include "coding/tables.h"

// Symbols with geometric probabilities: p(k) proportional to ratio^k, another ratio for each row.
static uint8_t *geometric(const qcnn_rows *rows, double first_ratio, double last_ratio, uint64_t seed)
{
    qcnn_rng rng = { seed };
    uint8_t *symbols = malloc(rows->n_rows * rows->length);
    for (size_t r = 0; r < rows->n_rows; r++) {
        const double ratio = first_ratio + (last_ratio - first_ratio) * (double)r / (double)rows->n_rows;
        double total = 0, sums[256];
        for (int k = 0; k < rows->n_symbols; k++)
            sums[k] = total += pow(ratio, k);
        for (size_t i = 0; i < rows->length; i++) {
            const double x = qcnn_rng_unit(&rng) * total;
            int k = 0;
            while (k + 1 < rows->n_symbols && sums[k] <= x)
                k++;
            symbols[r * rows->length + i] = (uint8_t)k;
        }
    }
    return symbols;
}

// Bits of the symbols under the statistics of each row alone.
static double entropy_of(const qcnn_rows *rows, const uint8_t *symbols)
{
    double bits = 0;
    for (size_t r = 0; r < rows->n_rows; r++) {
        double counts[256] = { 0 };
        for (size_t i = 0; i < rows->length; i++)
            counts[symbols[r * rows->length + i]]++;
        for (int k = 0; k < 256; k++)
            bits += counts[k] > 0 ? counts[k] * log2((double)rows->length / counts[k]) : 0;
    }
    return bits;
}

static qcnn_buffer encode(const qcnn_rows *rows, const uint8_t *symbols)
{
    qcnn_buffer coded = { 0 };
    qcnn_error error;
    if (qcnn_rans_encode(rows, symbols, &coded, &error) != QCNN_OK)
        fail_msg("%s", error.message);
    return coded;
}

// Decodes into exactly sized memory.
static qcnn_status try_decode(const qcnn_rows *rows, const unsigned char *coded, size_t n_bytes, const uint8_t *expected)
{
    const size_t n = rows->n_rows * rows->length;
    uint8_t *symbols = malloc(n);
    unsigned char *copy = malloc(n_bytes ? n_bytes : 1);
    memcpy(copy, coded, n_bytes);
    qcnn_error error = { 0 };
    const qcnn_status status = qcnn_rans_decode(copy, n_bytes, rows, symbols, &error);
    if (status == QCNN_OK && expected)
        assert_memory_equal(symbols, expected, n);
    for (size_t i = 0; status == QCNN_OK && i < n; i++)
        assert_true(symbols[i] < rows->n_symbols);
    if (status != QCNN_OK)
        assert_true(error.message[0] != 0);
    free(symbols);
    free(copy);
    return status;
}

static void test_round_trips(void **state)
{
    (void)state;
    static const int alphabets[] = { 1, 2, 3, 16, 31, 128, 255, 256 };
    static const size_t lengths[] = { 1, 2, 7, 8, 9, 16, 100, 1000 }, counts[] = { 1, 2, 5, 65, 130 };
    for (size_t a = 0; a < 8; a++)
        for (size_t l = 0; l < 8; l++)
            for (size_t c = 0; c < 5; c++) {
                const qcnn_rows rows = { counts[c], lengths[l], alphabets[a] };
                uint8_t *symbols = geometric(&rows, 0.5, 1, 7 * a + l);
                const qcnn_buffer coded = encode(&rows, symbols);
                assert_int_equal(try_decode(&rows, coded.data, coded.n_bytes, symbols), QCNN_OK);
                free(symbols);
                qcnn_release(coded.data);
            }
}

// From codebooks of which one word is left to all words used alike: within 2 % of the entropy, and 0.01 bits a symbol for tables.
static void test_near_the_entropy(void **state)
{
    (void)state;
    static const struct {
        int n_symbols;
        double first, last;
    } cases[] = { { 64, 0, 0 },     { 64, 0.001, 0.01 }, { 64, 0.05, 0.5 },   { 64, 0.9, 0.99 },
                  { 128, 0.99, 1 }, { 16, 0.3, 0.9 },    { 256, 0.95, 0.999 } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qcnn_rows rows = { 200, 4096, cases[i].n_symbols };
        uint8_t *symbols = geometric(&rows, cases[i].first, cases[i].last, i);
        const qcnn_buffer coded = encode(&rows, symbols);
        const double n = (double)(rows.n_rows * rows.length), entropy = entropy_of(&rows, symbols), bits = 8 * (double)coded.n_bytes;
        print_message("%d symbols: entropy %.4f bits, coded in %.4f with %d tables\n", rows.n_symbols, entropy / n, bits / n,
                      coded.data[0]);
        assert_true(bits <= 1.02 * entropy + 0.01 * n);
        assert_int_equal(try_decode(&rows, coded.data, coded.n_bytes, symbols), QCNN_OK);
        free(symbols);
        qcnn_release(coded.data);
    }
}

// Assignments of four bits, a share of them at random, the others 0: coded in a file only where that saves an eighth, or where
// there are few of them and it saves anything.
static uint32_t encoding_of(int outputs, double at_random)
{
    enum { SUBSPACES = 4 };
    uint8_t *assignments = malloc((size_t)(SUBSPACES * outputs));
    qcnn_rng rng = { 3 };
    for (int i = 0; i < SUBSPACES * outputs; i++)
        assignments[i] = (uint8_t)(qcnn_rng_below(&rng, 1000) < (uint32_t)(1000 * at_random) ? qcnn_rng_below(&rng, 16) : 0);
    const qcnn_tensor tensor = { .codebook = { .groups = 1,
                                               .n_sets = 1,
                                               .n_outputs = outputs,
                                               .n_inputs = SUBSPACES,
                                               .n_taps = 1,
                                               .subspace = 1,
                                               .n_subspaces = SUBSPACES,
                                               .n_codewords = 16,
                                               .assignments = assignments } };
    qcnn_content content;
    assert_int_equal(qcnn_encode(QCNN_SECTION_ASSIGNMENTS, &tensor, false, &content, NULL), QCNN_OK);
    assert_true(content.n_bytes <= content.decoded_bytes);
    qcnn_release(content.owned);
    free(assignments);
    return content.encoding;
}

static void test_coded_where_it_pays(void **state)
{
    (void)state;
    enum { FEW = 2048, MANY = 300000 };
    assert_int_equal(encoding_of(FEW, 1), QCNN_ENCODING_PLAIN);
    assert_int_equal(encoding_of(FEW, 0.85), QCNN_ENCODING_RANS);
    assert_int_equal(encoding_of(MANY, 0.85), QCNN_ENCODING_PLAIN);
    assert_int_equal(encoding_of(MANY, 0.6), QCNN_ENCODING_RANS);
}

static void test_damage(void **state)
{
    (void)state;
    const qcnn_rows rows = { 6, 53, 5 };
    uint8_t *symbols = geometric(&rows, 0.2, 0.9, 3);
    const qcnn_buffer coded = encode(&rows, symbols);
    for (size_t n = 0; n < coded.n_bytes; n++)
        assert_int_equal(try_decode(&rows, coded.data, n, NULL), QCNN_ERROR_FORMAT);
    unsigned char *longer = malloc(coded.n_bytes + 2);
    memcpy(longer, coded.data, coded.n_bytes);
    longer[coded.n_bytes] = longer[coded.n_bytes + 1] = 0;
    for (size_t n = 1; n <= 2; n++)
        assert_int_equal(try_decode(&rows, longer, coded.n_bytes + n, NULL), QCNN_ERROR_FORMAT);
    free(longer);
    size_t n_accepted = 0;
    for (size_t bit = 0; bit < 8 * coded.n_bytes; bit++) {
        coded.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        n_accepted += try_decode(&rows, coded.data, coded.n_bytes, NULL) == QCNN_OK;
        coded.data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    print_message("%zu of %zu flipped bits still decode\n", n_accepted, 8 * coded.n_bytes);
    assert_true(100 * n_accepted < 8 * coded.n_bytes); // the states must come back to where they began, which few others do
    const qcnn_rows others[] = { { 6, 52, 5 }, { 6, 54, 5 }, { 5, 53, 5 }, { 7, 53, 5 }, { 6, 53, 4 }, { 6, 53, 6 } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_int_equal(try_decode(&others[i], coded.data, coded.n_bytes, NULL), QCNN_ERROR_FORMAT);
    free(symbols);
    qcnn_release(coded.data);
}

static void test_random_bytes(void **state)
{
    (void)state;
    qcnn_rng rng = { 11 };
    for (int round = 0; round < 20000; round++) {
        unsigned char bytes[80];
        const size_t n = qcnn_rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)qcnn_rng_next(&rng);
        if (n > 0 && round % 2)
            bytes[0] = (unsigned char)(1 + qcnn_rng_below(&rng, 2));
        const qcnn_rows rows = { 1 + qcnn_rng_below(&rng, 3), 1 + qcnn_rng_below(&rng, 40), 1 + (int)qcnn_rng_below(&rng, 4) };
        try_decode(&rows, bytes, n, NULL);
    }
}

// Not a test: how fast assignments of the size of AlexNet's decode.
static void test_speed(void **state)
{
    (void)state;
    const qcnn_rows rows = { 576, 4096, 64 };
    uint8_t *symbols = geometric(&rows, 0.93, 0.98, 1), *back = malloc(rows.n_rows * rows.length);
    clock_t start = clock();
    const qcnn_buffer coded = encode(&rows, symbols);
    const double encoding = (double)(clock() - start) / CLOCKS_PER_SEC;
    start = clock();
    assert_int_equal(qcnn_rans_decode(coded.data, coded.n_bytes, &rows, back, NULL), QCNN_OK);
    const double decoding = (double)(clock() - start) / CLOCKS_PER_SEC, n = (double)(rows.n_rows * rows.length);
    print_message("%.0f ns a symbol to encode, %.2f to decode\n", 1e9 * encoding / n, 1e9 * decoding / n);
    free(symbols);
    free(back);
    qcnn_release(coded.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_near_the_entropy), cmocka_unit_test(test_coded_where_it_pays),
        cmocka_unit_test(test_damage),      cmocka_unit_test(test_random_bytes),     cmocka_unit_test(test_speed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
