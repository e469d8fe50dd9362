// SPDX-License-Identifier: Apache-2.0
// Writing files: complete under the final name, or the old file untouched and no temporary left, whatever call fails. The
// program's own write, fsync, rename and close stand before the C library's and fail on demand.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "qcnn_compress.h"

static const char folder[] = "test_atomic_file.d";
static const char path[] = "test_atomic_file.d/target.bin";

// ---- failing calls --------------------------------------------------------------------------------------------------

static struct {
    int n_calls, fail_at; // the call that fails, 1 the first; 0: none
    int reason;
    size_t at_most; // bytes that a write takes; 0: all
} calls;

static int call_fails(void)
{
    if (++calls.n_calls != calls.fail_at)
        return 0;
    errno = calls.reason;
    return 1;
}

ssize_t write(int descriptor, const void *data, size_t n)
{
    if (calls.fail_at && descriptor > 2 && call_fails())
        return -1;
    return syscall(SYS_write, descriptor, data, descriptor > 2 && calls.at_most && n > calls.at_most ? calls.at_most : n);
}

int fsync(int descriptor)
{
    return calls.fail_at && call_fails() ? -1 : (int)syscall(SYS_fsync, descriptor);
}

int rename(const char *from, const char *to)
{
    return calls.fail_at && call_fails() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

// ---- looking --------------------------------------------------------------------------------------------------------

static int files_in(const char *name)
{
    DIR *stream = opendir(name);
    assert_non_null(stream);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(stream));)
        n += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    closedir(stream);
    return n;
}

static void assert_holds(const char *name, const char *text, size_t n)
{
    char *data = malloc(n + 1);
    FILE *file = fopen(name, "rb");
    assert_non_null(file);
    assert_int_equal(fread(data, 1, n + 1, file), n);
    assert_memory_equal(data, text, n);
    fclose(file);
    free(data);
}

static int make_folder(void **state)
{
    (void)state;
    memset(&calls, 0, sizeof calls);
    mkdir(folder, 0777);
    unlink(path);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

// ---- tests ----------------------------------------------------------------------------------------------------------

static void test_new_and_replaced(void **state)
{
    (void)state;
    assert_int_equal(qcnn_write_file(path, "first", 5, NULL), QCNN_OK);
    assert_holds(path, "first", 5);
    chmod(path, 0640);
    assert_int_equal(qcnn_write_file(path, "", 0, NULL), QCNN_OK);
    assert_holds(path, "", 0);
    struct stat facts;
    assert_int_equal(stat(path, &facts), 0);
    assert_int_equal(facts.st_mode & 0777, 0640);
    assert_int_equal(files_in(folder), 1);
    assert_int_equal(qcnn_write_file("test_atomic_file.tmp", "here", 4, NULL), QCNN_OK); // no folder named
    assert_holds("test_atomic_file.tmp", "here", 4);
    unlink("test_atomic_file.tmp");
}

static void test_slow_writes(void **state)
{
    (void)state;
    calls.at_most = 2;
    assert_int_equal(qcnn_write_file(path, "seven by", 8, NULL), QCNN_OK);
    assert_holds(path, "seven by", 8);
    calls.fail_at = 2; // interrupted: tried again
    calls.reason = EINTR;
    assert_int_equal(qcnn_write_file(path, "interrupted", 11, NULL), QCNN_OK);
    assert_holds(path, "interrupted", 11);
}

static void test_every_call_fails(void **state)
{
    (void)state;
    static const char *const expected[] = { "cannot be written", "cannot be written", "cannot be written",
                                            "cannot be synced",  "cannot be renamed", "its folder cannot be synced" };
    for (int n = 1; n <= 6; n++) {
        qcnn_error error;
        memset(&calls, 0, sizeof calls);
        assert_int_equal(qcnn_write_file(path, "old", 3, NULL), QCNN_OK);
        calls.at_most = 2;
        calls.reason = EIO;
        calls.fail_at = n;
        assert_int_equal(qcnn_write_file(path, "newer", 5, &error), QCNN_ERROR_IO);
        if (!strstr(error.message, expected[n - 1]) || !strstr(error.message, "target.bin: ") ||
            !strstr(error.message, "Input/output error"))
            fail_msg("expected '%s', got '%s'", expected[n - 1], error.message);
        if (n < 6)
            assert_holds(path, "old", 3);
        else
            assert_holds(path, "newer", 5); // in place, only not known to last
        assert_int_equal(files_in(folder), 1);
    }
}

static void test_places_that_cannot_be_written(void **state)
{
    (void)state;
    qcnn_error error;
    assert_int_equal(qcnn_write_file("no/such/folder/x", "a", 1, &error), QCNN_ERROR_IO);
    assert_non_null(strstr(error.message, "no/such/folder/x: cannot make a temporary file beside it: No such file"));
    assert_int_equal(qcnn_write_file(folder, "a", 1, &error), QCNN_ERROR_IO);
    assert_non_null(strstr(error.message, "Is a directory"));
    assert_int_equal(qcnn_write_file("", "a", 1, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_write_file(NULL, "a", 1, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_write_file(path, NULL, 1, &error), QCNN_ERROR_ARGUMENT);
    assert_int_equal(qcnn_write_file("/dev/null", "a", 1, &error), QCNN_OK);
    assert_int_equal(qcnn_write_file("/dev/full", "a", 1, &error), QCNN_ERROR_IO);
    assert_non_null(strstr(error.message, "/dev/full: cannot be written: No space left"));
}

static void test_a_name_as_long_as_they_get(void **state)
{
    (void)state;
    char name[600];
    snprintf(name, sizeof name, "%s/%0250d", folder, 0);
    assert_int_equal(qcnn_write_file(name, "long", 4, NULL), QCNN_OK);
    assert_holds(name, "long", 4);
    unlink(name);
    assert_int_equal(files_in(folder), 0);
}

static void test_disk_full(void **state)
{
    (void)state;
    if (geteuid() != 0 || mount("tmpfs", folder, "tmpfs", 0, "size=128k")) {
        print_message("SKIPPED: a full disk needs root and the right to mount a tmpfs\n");
        return;
    }
    enum { OLD = 40000, MAX_NEW = 128 * 1024 };
    char *old = calloc(OLD, 1), *new = malloc(MAX_NEW);
    memset(new, 'n', MAX_NEW);
    int n_full = 0;
    for (int i = 0; i < 100; i++) {
        const size_t n = 4096 + (size_t)i * (MAX_NEW - 4096) / 100;
        assert_int_equal(qcnn_write_file(path, old, OLD, NULL), QCNN_OK);
        const qcnn_status status = qcnn_write_file(path, new, n, NULL);
        if (status == QCNN_OK) {
            assert_holds(path, new, n);
            unlink(path);
        } else {
            assert_int_equal(status, QCNN_ERROR_IO);
            assert_holds(path, old, OLD);
            n_full++;
        }
        assert_true(files_in(folder) <= 1);
    }
    print_message("disk full at %d of 100 sizes\n", n_full);
    assert_true(n_full > 10 && n_full < 90);
    free(old);
    free(new);
    assert_int_equal(umount(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_new_and_replaced, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_slow_writes, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_every_call_fails, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_places_that_cannot_be_written, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_a_name_as_long_as_they_get, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_disk_full, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
