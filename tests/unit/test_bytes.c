// SPDX-License-Identifier: Apache-2.0
// The bounded cursor, the growing buffer, text checks and CRC-32.

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32.h"
#include "base/memory.h"

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    qcnn_buffer buffer = { 0 };
    qcnn_write_u8(&buffer, 0xab);
    qcnn_write_u16(&buffer, 0x1234);
    qcnn_write_u32(&buffer, 0xdeadbeef);
    qcnn_write_u64(&buffer, 0x0102030405060708);
    qcnn_write_f32(&buffer, -1.5f);
    qcnn_write_zeros(&buffer, 3);
    qcnn_write_bytes(&buffer, "end", 3);
    static const unsigned char expected[] = "\xab\x34\x12\xef\xbe\xad\xde\x08\x07\x06\x05\x04\x03\x02\x01\0\0\xc0\xbf\0\0\0end";
    assert_false(buffer.failed);
    assert_int_equal(buffer.n_bytes, sizeof expected - 1);
    assert_memory_equal(buffer.data, expected, sizeof expected - 1);
    qcnn_cursor cursor = { .next = buffer.data, .n_left = buffer.n_bytes };
    assert_int_equal(qcnn_read_u8(&cursor), 0xab);
    assert_int_equal(qcnn_read_u16(&cursor), 0x1234);
    assert_int_equal(qcnn_read_u32(&cursor), 0xdeadbeef);
    assert_true(qcnn_read_u64(&cursor) == 0x0102030405060708);
    assert_true(qcnn_read_f32(&cursor) == -1.5f);
    assert_true(qcnn_bytes_are_zero(qcnn_read_bytes(&cursor, 3), 3));
    assert_memory_equal(qcnn_read_bytes(&cursor, 3), "end", 3);
    assert_int_equal(cursor.n_left, 0);
    assert_non_null(qcnn_read_bytes(&cursor, 0));
    assert_false(cursor.failed);
    qcnn_release(buffer.data);
}

static void test_the_cursor_stays_inside(void **state)
{
    (void)state;
    static const unsigned char data[] = { 1, 2, 3 };
    qcnn_cursor cursor = { .next = data, .n_left = sizeof data };
    assert_null(qcnn_read_bytes(&cursor, SIZE_MAX));
    assert_true(cursor.failed);
    assert_int_equal(qcnn_read_u8(&cursor), 0); // a failure lasts
    cursor = (qcnn_cursor){ .next = data, .n_left = sizeof data };
    assert_int_equal(qcnn_read_u16(&cursor), 0x0201);
    assert_int_equal(qcnn_read_u16(&cursor), 0);
    assert_true(cursor.failed);
}

static void *no_memory(void *context, size_t n, size_t alignment)
{
    (void)context;
    (void)n;
    (void)alignment;
    return NULL;
}

static void test_a_buffer_without_memory(void **state)
{
    (void)state;
    qcnn_buffer buffer = { 0 };
    qcnn_set_allocator(&(qcnn_allocator){ no_memory, NULL, NULL });
    qcnn_write_u32(&buffer, 7);
    qcnn_set_allocator(NULL);
    qcnn_write_zeros(&buffer, 7);
    qcnn_write_bytes(&buffer, "x", 1);
    assert_true(buffer.failed);
    assert_null(buffer.data);
}

static bool is_text(const char *text, bool lines)
{
    const size_t n = strlen(text);
    unsigned char *exact = malloc(n + !n);
    memcpy(exact, text, n);
    const bool result = qcnn_bytes_are_text(exact, n, lines);
    free(exact);
    return result;
}

static void test_text(void **state)
{
    (void)state;
    static const char *const good[] = {
        "", "conv1/7x7_s2", "gr\xc3\xbcn", "\xe2\x82\xac", "\xf0\x9f\x90\x9f", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"
    };
    static const char *const bad[] = { "\x01",
                                       "\x7f",
                                       "\x80",
                                       "\xc0\xaf",
                                       "\xc3",
                                       "\xc3(",
                                       "\xe0\x9f\xbf",
                                       "\xed\xa0\x80",
                                       "\xe2\x82",
                                       "\xe2\x82(",
                                       "\xf0\x8f\xbf\xbf",
                                       "\xf4\x90\x80\x80",
                                       "\xf5\x80\x80\x80",
                                       "\xf0\x9f\x90",
                                       "\xff",
                                       "a\x1b[31m" };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(is_text(good[i], false));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(is_text(bad[i], true));
    assert_true(is_text("a\tb\r\n", true));
    assert_false(is_text("a\tb", false));
    assert_false(qcnn_bytes_are_text((const unsigned char *)"a\0b", 3, true));
}

static void test_crc32(void **state)
{
    (void)state;
    qcnn_crc32_tables tables;
    qcnn_crc32_init(&tables);
    assert_int_equal(qcnn_crc32(&tables, 0, "", 0), 0);
    assert_int_equal(qcnn_crc32(&tables, 0, "123456789", 9), 0xcbf43926);
    unsigned char data[300];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * i * 7 + 3);
    const uint32_t whole = qcnn_crc32(&tables, 0, data, sizeof data);
    uint32_t bit_by_bit = ~0u;
    for (size_t i = 0; i < sizeof data; i++)
        for (int bit = 0; bit < 8; bit++)
            bit_by_bit = bit_by_bit >> 1 ^ (((bit_by_bit ^ (uint32_t)data[i] >> bit) & 1) ? 0xedb88320u : 0);
    assert_int_equal(whole, ~bit_by_bit);
    for (size_t cut = 0; cut <= sizeof data; cut++)
        assert_int_equal(qcnn_crc32(&tables, qcnn_crc32(&tables, 0, data, cut), data + cut, sizeof data - cut), whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_the_cursor_stays_inside),
        cmocka_unit_test(test_a_buffer_without_memory),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_crc32),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
