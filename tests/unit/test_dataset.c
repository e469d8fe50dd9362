// SPDX-License-Identifier: Apache-2.0
// Data sets (folders, labels.tsv, IDX) and class lists: what they hold, and what is refused.

#include "image_samples.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "image/dataset.h"
#include "image/text_lines.h"
#include "model/model.h"

// ---- a folder to work in --------------------------------------------------------------------------------------------

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/qcnn_dataset_XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const void *data, size_t n_bytes)
{
    FILE *file = fopen(path_of(name), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, n_bytes, file), n_bytes);
    fclose(file);
}

static void write_images(void)
{
    const sample jpeg = make_jpeg(8, 6, 3, (jpeg_options){ 0 }), png = make_png(5, 4, PNG_COLOR_TYPE_GRAY, 8, 0, 0);
    write_file("b.JPG", jpeg.data, jpeg.n_bytes);
    write_file("a.png", png.data, png.n_bytes);
    write_file("c.jpeg", "nothing", 7);
    write_file(".hidden.jpg", "", 0);
    write_file("notes.txt", "", 0);
    free(jpeg.data);
    free(png.data);
}

// ---- folders --------------------------------------------------------------------------------------------------------

static void test_unlabelled_folder(void **state)
{
    (void)state;
    qcnn_dataset *dataset;
    qcnn_error error;
    assert_int_equal(qcnn_dataset_open(folder, &dataset, &error), QCNN_ERROR_FORMAT); // no image yet
    assert_null(dataset);
    write_images();
    assert_int_equal(qcnn_dataset_open(folder, &dataset, &error), QCNN_OK);
    assert_int_equal(qcnn_dataset_size(dataset), 3);
    assert_string_equal(qcnn_dataset_name(dataset, 0), "a.png");
    assert_string_equal(qcnn_dataset_name(dataset, 1), "b.JPG");
    assert_string_equal(qcnn_dataset_name(dataset, 2), "c.jpeg");
    assert_int_equal(qcnn_dataset_label(dataset, 1), -1);
    qcnn_image image;
    assert_int_equal(qcnn_dataset_image(dataset, 0, &image, &error), QCNN_OK);
    assert_true(image.width == 5 && image.height == 4 && image.channels == 1);
    qcnn_image_free(&image);
    assert_int_equal(qcnn_dataset_image(dataset, 2, &image, &error), QCNN_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "c.jpeg"));
    assert_int_equal(qcnn_dataset_image(dataset, 3, &image, &error), QCNN_ERROR_ARGUMENT);
    assert_null(qcnn_dataset_name(dataset, -1));
    qcnn_dataset_free(dataset);
}

static void test_labelled_folder(void **state)
{
    (void)state;
    qcnn_dataset *dataset;
    qcnn_error error;
    write_images();
    const char text[] = "b.JPG\t7\r\na.png\t0\nabsent.jpg\t12";
    write_file("labels.tsv", text, sizeof text - 1);
    assert_int_equal(qcnn_dataset_open(folder, &dataset, &error), QCNN_OK);
    assert_int_equal(qcnn_dataset_size(dataset), 3);
    assert_string_equal(qcnn_dataset_name(dataset, 0), "b.JPG");
    assert_int_equal(qcnn_dataset_label(dataset, 0), 7);
    assert_int_equal(qcnn_dataset_label(dataset, 2), 12);
    qcnn_image image;
    assert_int_equal(qcnn_dataset_image(dataset, 0, &image, &error), QCNN_OK);
    qcnn_image_free(&image);
    assert_int_equal(qcnn_dataset_image(dataset, 2, &image, &error), QCNN_ERROR_IO);
    assert_non_null(strstr(error.message, "absent.jpg"));
    qcnn_dataset_free(dataset);
    write_file("labels.tsv", "x\n", 2);
    assert_int_equal(qcnn_dataset_open(folder, &dataset, &error), QCNN_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "line 1"));
    assert_non_null(strstr(error.message, folder));
    unlink(path_of("labels.tsv"));
    assert_int_equal(qcnn_dataset_open("/nonexistent", &dataset, &error), QCNN_ERROR_IO);
    assert_int_equal(qcnn_dataset_open(path_of("notes.txt"), &dataset, &error), QCNN_ERROR_ARGUMENT);
}

// ---- labels.tsv -----------------------------------------------------------------------------------------------------

static qcnn_status parse_labels(const char *text, size_t n_bytes, qcnn_error *error)
{
    char *exact = malloc(n_bytes ? n_bytes : 1);
    memcpy(exact, text, n_bytes);
    qcnn_dataset *dataset;
    const qcnn_status status = qcnn_dataset_from_labels(exact, n_bytes, "folder", &dataset, error);
    free(exact);
    assert_true((dataset != NULL) == (status == QCNN_OK));
    qcnn_dataset_free(dataset);
    return status;
}

static void test_labels_lines(void **state)
{
    (void)state;
    static const char *const good[] = { "a\t0", "a\t0\n", "\357\273\277a b/c..d/..e\t999999\r\n", "./\xc3\xa4.jpg\t1\n", "...\t0" };
    static const char *const bad[] = {
        "",
        "\n",
        "a",
        "a\t",
        "\t1",
        "a 1",
        "a\t1\t2",
        "a\t-1",
        "a\t+1",
        "a\t1.0",
        "a\tx",
        "a\t 1",
        "a\t1000000",
        "a\t99999999999999999999",
        "/etc/passwd\t1",
        "..\t1",
        "../a\t1",
        "a/../b\t1",
        "a/..\t1",
        "a\r\t1",
        "a\x01\t1",
        "\xff\t1",
        "\xc3\t1",
        "\xed\xa0\x80\t1",
        "\xc0\xaf\t1",
        "\xf4\x90\x80\x80\t1",
        "a\t1\r",
    };
    qcnn_error error;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(parse_labels(good[i], strlen(good[i]), &error), QCNN_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[128];
        assert_int_equal(parse_labels(bad[i], strlen(bad[i]), &error), QCNN_ERROR_FORMAT);
        if (i < 2)
            continue;
        snprintf(text, sizeof text, "ok\t1\nok\t2\r\n%s\nok\t3\n", bad[i]);
        if (strcmp(bad[i], "a\t1\r") == 0)
            continue; // before a line feed that is a CR LF
        assert_int_equal(parse_labels(text, strlen(text), &error), QCNN_ERROR_FORMAT);
        assert_non_null(strstr(error.message, "line 3"));
    }
    assert_int_equal(parse_labels("a\0b\t1\n", 6, &error), QCNN_ERROR_FORMAT);
}

static void test_labels_damage(void **state)
{
    (void)state;
    const char text[] = "one/a.jpg\t12\r\nb.png\t3\n\xc3\xa4.jpeg\t0\n";
    uint32_t seed = 5;
    qcnn_error error;
    for (size_t n = 0; n < sizeof text; n++)
        for (int round = 0; round < 100; round++) {
            char copy[sizeof text];
            memcpy(copy, text, n);
            if (n > 0)
                copy[sample_random(&seed) % n] = (char)sample_random(&seed);
            parse_labels(copy, n, &error);
        }
}

// ---- IDX ------------------------------------------------------------------------------------------------------------

enum { N_IMAGES = 5, ROWS = 3, COLUMNS = 4, IMAGES_BYTES = 16 + N_IMAGES * ROWS * COLUMNS, LABELS_BYTES = 8 + N_IMAGES };

static void make_idx(uint8_t images[IMAGES_BYTES], uint8_t labels[LABELS_BYTES])
{
    static const uint8_t image_header[16] = { 0, 0, 8, 3, 0, 0, 0, N_IMAGES, 0, 0, 0, ROWS, 0, 0, 0, COLUMNS };
    static const uint8_t label_header[8] = { 0, 0, 8, 1, 0, 0, 0, N_IMAGES };
    memcpy(images, image_header, 16);
    memcpy(labels, label_header, 8);
    for (int i = 16; i < IMAGES_BYTES; i++)
        images[i] = (uint8_t)(i * 3);
    for (int i = 8; i < LABELS_BYTES; i++)
        labels[i] = (uint8_t)(200 + i);
}

static sample pack(const void *data, size_t n_bytes)
{
    sample packed = { malloc(n_bytes + 1024), 0 };
    z_stream stream = { .next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)n_bytes, .next_out = packed.data };
    stream.avail_out = (uInt)n_bytes + 1024;
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    packed.n_bytes = stream.total_out;
    deflateEnd(&stream);
    return packed;
}

static qcnn_status parse_idx(const uint8_t *images, size_t n_images, const uint8_t *labels, size_t n_labels, qcnn_error *error)
{
    uint8_t *exact_images = malloc(n_images + 1), *exact_labels = malloc(n_labels + 1);
    qcnn_dataset *dataset;
    uint8_t *end_images = exact_images + 1, *end_labels = exact_labels + 1; // so that the last byte read ends the block
    memcpy(end_images, images, n_images);
    if (labels)
        memcpy(end_labels, labels, n_labels);
    const qcnn_status status = qcnn_dataset_from_idx(end_images, n_images, labels ? end_labels : NULL, n_labels, &dataset, error);
    free(exact_images);
    free(exact_labels);
    assert_true((dataset != NULL) == (status == QCNN_OK));
    qcnn_dataset_free(dataset);
    return status;
}

static void test_idx_files(void **state)
{
    (void)state;
    uint8_t images[IMAGES_BYTES], labels[LABELS_BYTES];
    make_idx(images, labels);
    const sample packed_images = pack(images, sizeof images), packed_labels = pack(labels, sizeof labels);
    write_file("x-images-idx3-ubyte", images, sizeof images);
    write_file("x-labels-idx1-ubyte", labels, sizeof labels);
    write_file("x-images-idx3-ubyte.gz", packed_images.data, packed_images.n_bytes);
    write_file("x-labels-idx1-ubyte.gz", packed_labels.data, packed_labels.n_bytes);
    write_file("alone-images-idx3-ubyte", images, sizeof images);
    static const char *const names[] = { "x-images-idx3-ubyte", "x-images-idx3-ubyte.gz", "alone-images-idx3-ubyte" };
    for (int i = 0; i < 3; i++) {
        qcnn_dataset *dataset;
        qcnn_image image;
        assert_int_equal(qcnn_dataset_open(path_of(names[i]), &dataset, NULL), QCNN_OK);
        assert_int_equal(qcnn_dataset_size(dataset), N_IMAGES);
        assert_string_equal(qcnn_dataset_name(dataset, 3), "3");
        assert_int_equal(qcnn_dataset_label(dataset, 3), i == 2 ? -1 : labels[8 + 3]);
        assert_int_equal(qcnn_dataset_image(dataset, 3, &image, NULL), QCNN_OK);
        assert_true(image.width == COLUMNS && image.height == ROWS && image.channels == 1);
        assert_memory_equal(image.pixels, images + 16 + 3 * ROWS * COLUMNS, ROWS * COLUMNS);
        qcnn_image_free(&image);
        qcnn_dataset_free(dataset);
    }
    free(packed_images.data);
    free(packed_labels.data);
}

static void test_idx_damage(void **state)
{
    (void)state;
    uint8_t images[IMAGES_BYTES + 1] = { 0 }, labels[LABELS_BYTES + 1] = { 0 };
    qcnn_error error;
    make_idx(images, labels);
    assert_int_equal(parse_idx(images, IMAGES_BYTES, labels, LABELS_BYTES, &error), QCNN_OK);
    for (size_t n = 0; n <= IMAGES_BYTES + 1; n++)
        assert_int_equal(parse_idx(images, n, NULL, 0, &error), n == IMAGES_BYTES ? QCNN_OK : QCNN_ERROR_FORMAT);
    for (size_t n = 0; n <= LABELS_BYTES + 1; n++)
        assert_int_equal(parse_idx(images, IMAGES_BYTES, labels, n, &error), n == LABELS_BYTES ? QCNN_OK : QCNN_ERROR_FORMAT);
    for (size_t i = 0; i < 16; i++)
        for (int value = 0; value < 256; value++) {
            const uint8_t kept = images[i];
            images[i] = (uint8_t)value;
            assert_int_equal(parse_idx(images, IMAGES_BYTES, NULL, 0, &error), value == kept ? QCNN_OK : QCNN_ERROR_FORMAT);
            images[i] = kept;
        }
    // gzip: cut off, followed by something, damaged (the checksum sees it), of another length than declared
    const sample packed = pack(images, IMAGES_BYTES);
    for (size_t n = 0; n < packed.n_bytes; n++)
        assert_int_equal(parse_idx(packed.data, n, NULL, 0, &error), QCNN_ERROR_FORMAT);
    for (size_t i = 10; i < packed.n_bytes; i++) {
        packed.data[i] ^= 0x04;
        assert_int_equal(parse_idx(packed.data, packed.n_bytes, NULL, 0, &error), QCNN_ERROR_FORMAT);
        packed.data[i] ^= 0x04;
    }
    packed.data[packed.n_bytes] = 0;
    assert_int_equal(parse_idx(packed.data, packed.n_bytes + 1, NULL, 0, &error), QCNN_ERROR_FORMAT);
    free(packed.data);
    const sample longer = pack(images, IMAGES_BYTES + 1), shorter = pack(images, IMAGES_BYTES - 1);
    assert_int_equal(parse_idx(longer.data, longer.n_bytes, NULL, 0, &error), QCNN_ERROR_FORMAT);
    assert_int_equal(parse_idx(shorter.data, shorter.n_bytes, NULL, 0, &error), QCNN_ERROR_FORMAT);
    free(longer.data);
    free(shorter.data);
}

static void test_idx_bomb(void **state)
{
    (void)state;
    static uint8_t zeros[1 << 20] = { 0, 0, 8, 3, 0, 0, 0x40, 0, 0, 0, 0, 0x80, 0, 0, 0, 0x80 }; // declares 16384 x 128 x 128
    const sample bomb = pack(zeros, sizeof zeros);
    qcnn_error error;
    fail_allocation(0);
    assert_int_equal(parse_idx(bomb.data, bomb.n_bytes, NULL, 0, &error), QCNN_ERROR_FORMAT);
    assert_true(samples_largest < 1 << 20);
    qcnn_set_allocator(NULL);
    free(bomb.data);
}

// ---- class names ----------------------------------------------------------------------------------------------------

static qcnn_model *model_with_outputs(int n)
{
    qcnn_model *model;
    const qcnn_shape shape = { 2, { 1, n } };
    int value;
    assert_int_equal(qcnn_model_new(&model, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_value(model, "scores", &shape, -1, &value, NULL), QCNN_OK);
    assert_int_equal(qcnn_model_add_output(model, value, NULL), QCNN_OK);
    return model;
}

static void test_classes(void **state)
{
    (void)state;
    qcnn_model *model = model_with_outputs(3);
    qcnn_error error;
    const char good[] = "\357\273\277goldfish, Carassius\r\nK\xc3\xa4se\nbag";
    assert_int_equal(qcnn_model_set_classes_text(model, good, sizeof good - 1, &error), QCNN_OK);
    static const char *const bad[] = { "", "\n\n\n", "a\n\nc\n", "a\nb\n", "a\nb\nc\nd\n", "a\nb\nc\n\n", "a\n\xff\nc", "a\nb\x1b[2J\nc" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_not_equal(qcnn_model_set_classes_text(model, bad[i], strlen(bad[i]), &error), QCNN_OK);
    assert_int_equal(qcnn_model_set_classes_text(model, "a\n\nc\n", 5, &error), QCNN_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "line 2"));
    char *text = malloc(2000);
    memset(text, 'x', 2000);
    assert_int_equal(qcnn_model_set_classes_text(model, text, 2000, &error), QCNN_ERROR_FORMAT);
    free(text);
    assert_int_equal(model->n_classes, 3); // failures leave the list alone
    assert_string_equal(model->classes[0], "goldfish, Carassius");
    assert_string_equal(model->classes[1], "K\xc3\xa4se");
    assert_string_equal(model->classes[2], "bag");
    assert_int_equal(qcnn_model_set_classes_text(model, "x\ny\nz\n", 6, &error), QCNN_OK);
    assert_string_equal(model->classes[2], "z");
    assert_int_equal(qcnn_model_set_preprocess_text(model, "{}", 2, &error), QCNN_ERROR_FORMAT);
    assert_null(model->preprocessing);
    qcnn_model_free(model);
}

// ---- memory that runs out -------------------------------------------------------------------------------------------

static qcnn_status open_attempt(void *argument)
{
    qcnn_dataset *dataset;
    qcnn_image image = { 0 };
    qcnn_status status = qcnn_dataset_open(argument, &dataset, NULL);
    if (status == QCNN_OK)
        status = qcnn_dataset_image(dataset, 0, &image, NULL);
    qcnn_image_free(&image);
    qcnn_dataset_free(dataset);
    return status;
}

static qcnn_status classes_attempt(void *argument)
{
    (void)argument;
    qcnn_model *model;
    const qcnn_status status = qcnn_model_new(&model, NULL);
    if (status != QCNN_OK)
        return status;
    qcnn_status result = qcnn_model_set_classes_text(model, "a\nb\n", 4, NULL);
    if (result == QCNN_OK)
        result = qcnn_model_set_classes_text(model, "c\nd\ne\n", 6, NULL);
    qcnn_model_free(model);
    return result;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    uint8_t images[IMAGES_BYTES], labels[LABELS_BYTES];
    char path[512];
    write_images();
    fail_each_allocation(open_attempt, folder);
    write_file("labels.tsv", "a.png\t1\n", 8);
    fail_each_allocation(open_attempt, folder);
    unlink(path_of("labels.tsv"));
    make_idx(images, labels);
    const sample packed = pack(images, sizeof images);
    write_file("m-images-idx3-ubyte.gz", packed.data, packed.n_bytes);
    write_file("m-labels-idx1-ubyte.gz", labels, sizeof labels); // told by content, not by name
    strcpy(path, path_of("m-images-idx3-ubyte.gz"));
    fail_each_allocation(open_attempt, path);
    free(packed.data);
    fail_each_allocation(classes_attempt, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unlabelled_folder), cmocka_unit_test(test_labelled_folder), cmocka_unit_test(test_labels_lines),
        cmocka_unit_test(test_labels_damage),     cmocka_unit_test(test_idx_files),       cmocka_unit_test(test_idx_damage),
        cmocka_unit_test(test_idx_bomb),          cmocka_unit_test(test_classes),         cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests_name("dataset", tests, make_folder, remove_folder);
}
