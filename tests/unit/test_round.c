// SPDX-License-Identifier: Apache-2.0
// float16 conversion against the compiler's, and rounding to float16 and int8.

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/half.h"
#include "base/rng.h"
#include "compress/round.h"

static void test_every_half(void **state)
{
    (void)state;
    float before = -INFINITY;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint32_t half = i < 32768 ? 65535 - i : i - 32768; // from the most negative one up
        const float value = qcnn_half_to_float((uint16_t)half);
        if (isnan(value)) {
            assert_true((half & 0x7fff) > 0x7c00);
            assert_true((qcnn_float_to_half(value) & 0x7fff) > 0x7c00);
            continue;
        }
        assert_true(value >= before);
        assert_int_equal(qcnn_float_to_half(value), half);
        before = value;
    }
    assert_true(qcnn_half_to_float(0x3c01) == 1 + 0x1p-10f && qcnn_half_to_float(0x0001) == 0x1p-24f &&
                qcnn_half_to_float(0x7bff) == 65504);
}

// Between two neighbours the nearer one is taken, in the middle the even one.
static void test_halves_round_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t half = 0; half < 0x7c00; half++) {
        const float low = qcnn_half_to_float((uint16_t)half), high = half == 0x7bff ? 65536 : qcnn_half_to_float((uint16_t)(half + 1));
        const float middle = (low + high) / 2;
        assert_int_equal(qcnn_float_to_half(middle), half + (half & 1));
        assert_int_equal(qcnn_float_to_half(nextafterf(middle, 0)), half);
        assert_int_equal(qcnn_float_to_half(nextafterf(middle, INFINITY)), half + 1);
        assert_int_equal(qcnn_float_to_half(-middle), 0x8000 | (half + (half & 1)));
    }
    assert_int_equal(qcnn_float_to_half(1e10f), 0x7c00);
    assert_int_equal(qcnn_float_to_half(-INFINITY), 0xfc00);
    assert_int_equal(qcnn_float_to_half(1e-30f), 0);
}

static double squared_difference(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum;
}

static void test_int8(void **state)
{
    (void)state;
    enum { N = 200 };
    qcnn_rng rng = { 5 };
    for (int largest = 1; largest <= 127; largest += 7) {
        float numbers[N], rounded[N], other[N], magnitude = 0;
        for (int i = 0; i < N; i++) {
            numbers[i] = (float)(qcnn_rng_unit(&rng) + qcnn_rng_unit(&rng) + qcnn_rng_unit(&rng) - 1.5);
            magnitude = fmaxf(magnitude, fabsf(numbers[i]));
        }
        memcpy(rounded, numbers, sizeof rounded);
        const float scale = qcnn_round_int8(rounded, N, largest);
        for (int i = 0; i < N; i++) {
            const float integer = rintf(rounded[i] / scale);
            assert_true(fabsf(integer) <= (float)largest && scale * integer == rounded[i]);
        }
        for (int i = 1; i <= 20; i++) { // no worse than any plain choice of scale, give or take little
            memcpy(other, numbers, sizeof other);
            qcnn_round_int8_to(other, N, largest, magnitude / (float)largest * (float)i / 20);
            assert_true(squared_difference(rounded, numbers, N) <= 1.02 * squared_difference(other, numbers, N));
        }
    }
    float zeros[3] = { 0, -0.0f, 0 };
    assert_true(qcnn_round_int8(zeros, 3, 127) == 0);
    assert_false(signbit(zeros[1]));
}

static void test_float16(void **state)
{
    (void)state;
    float numbers[] = { 1.0001f, -70000, 1e9f, 0.1f };
    qcnn_round_float16(numbers, 4);
    assert_true(numbers[0] == 1 && numbers[1] == -65504 && numbers[2] == 65504);
    assert_true(fabsf(numbers[3] - 0.1f) < 1e-4f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_half),
        cmocka_unit_test(test_halves_round_to_nearest_even),
        cmocka_unit_test(test_int8),
        cmocka_unit_test(test_float16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
