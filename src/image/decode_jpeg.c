// SPDX-License-Identifier: Apache-2.0
// JPEG through libjpeg-turbo, with its default DCT and upsampling, so that pixels equal those of Pillow.
//
// libjpeg warns and goes on where data are damaged. Here damage that changes pixels is an error (a picture that is half grey
// would be classified as something), while oddities that do not (bytes between segments, as some cameras leave) are passed over.

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jerror.h>
#include <jpeglib.h>

#include "base/memory.h"
#include "image/image.h"

enum {
    MAX_SCANS = 100,       // real progressive files have about ten
    PIXELS_PER_BYTE = 512, // a block of 8 x 8 pixels takes at least one bit
    MAX_APP1_BYTES = 0xffff,
};

// Scans times pixels: bounds the time that a small file with many nearly empty scans can ask for.
static const uint64_t max_scanned_pixels = 2000u * 1000 * 1000;

// What the callbacks of libjpeg need. Each of its own structs comes first or is found by `client_data`.
typedef struct jpeg_decoder {
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    uint64_t max_pixels;
    size_t n_bytes;
    qcnn_image *image;
    int *orientation;
    qcnn_status status;
    qcnn_error *error;
} jpeg_decoder;

static jpeg_decoder *decoder_of(j_common_ptr info)
{
    return info->client_data;
}

__attribute__((noreturn)) static void leave(jpeg_decoder *decoder, qcnn_status status)
{
    decoder->status = status;
    longjmp(decoder->failed, 1);
}

__attribute__((noreturn)) static void on_error(j_common_ptr info)
{
    jpeg_decoder *decoder = decoder_of(info);
    char text[JMSG_LENGTH_MAX];
    info->err->format_message(info, text);
    qcnn_status status = QCNN_ERROR_FORMAT;
    switch (info->err->msg_code) {
    case JERR_OUT_OF_MEMORY: status = QCNN_ERROR_MEMORY; break;
    case JERR_BAD_PRECISION:
    case JERR_SOF_UNSUPPORTED:
    case JERR_ARITH_NOTIMPL:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_NO_BACKING_STORE: status = QCNN_ERROR_UNSUPPORTED; break;
    default: break;
    }
    leave(decoder, qcnn_fail(decoder->error, status, "JPEG: %s", text));
}

static void on_message(j_common_ptr info, int level)
{
    if (level >= 0)
        return; // a trace
    switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_ICC: return;
    default: on_error(info);
    }
}

static void on_output(j_common_ptr info)
{
    (void)info; // a library does not print
}

static void on_progress(j_common_ptr info)
{
    const jpeg_decoder *decoder = decoder_of(info);
    const struct jpeg_decompress_struct *jpeg = &decoder->info;
    const uint64_t n_pixels = (uint64_t)jpeg->image_width * jpeg->image_height, n_scans = (uint64_t)jpeg->input_scan_number;
    if (n_scans > MAX_SCANS || n_scans * n_pixels > max_scanned_pixels)
        leave(decoder_of(info), qcnn_fail(decoder->error, QCNN_ERROR_FORMAT, "JPEG: more than %d scans for %u x %u pixels",
                                          (int)n_scans - 1, jpeg->image_width, jpeg->image_height));
}

static void check_header(jpeg_decoder *decoder)
{
    struct jpeg_decompress_struct *jpeg = &decoder->info;
    const qcnn_status status = qcnn_image_check_size("JPEG", jpeg->image_width, jpeg->image_height, decoder->max_pixels, decoder->n_bytes,
                                                     PIXELS_PER_BYTE, decoder->error);
    if (status != QCNN_OK)
        leave(decoder, status);
    if (jpeg->num_components == 4)
        leave(decoder, qcnn_fail(decoder->error, QCNN_ERROR_UNSUPPORTED, "JPEG: CMYK colours (made for print): convert the image to RGB"));
    if (jpeg->num_components != 1 && jpeg->num_components != 3)
        leave(decoder, qcnn_fail(decoder->error, QCNN_ERROR_UNSUPPORTED, "JPEG: %d colour components, where 1 or 3 can be decoded",
                                 jpeg->num_components));
    jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    // A progressive file's coefficients take 2 bytes a pixel and component; the rest is for rows and rounding up.
    jpeg->mem->max_memory_to_use = (long)(8 * (uint64_t)jpeg->image_width * jpeg->image_height + (8 << 20));
}

static int stored_orientation(const struct jpeg_decompress_struct *jpeg)
{
    static const uint8_t exif_name[6] = "Exif\0";
    for (const struct jpeg_marker_struct *marker = jpeg->marker_list; marker; marker = marker->next)
        if (marker->data_length > sizeof exif_name && memcmp(marker->data, exif_name, sizeof exif_name) == 0)
            return qcnn_exif_orientation(marker->data + sizeof exif_name, marker->data_length - sizeof exif_name);
    return 1;
}

// Leaves by longjmp on failure; what is allocated by then hangs on the decoder.
static void decode(jpeg_decoder *decoder, const uint8_t *data)
{
    struct jpeg_decompress_struct *jpeg = &decoder->info;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &decoder->progress;
    jpeg_mem_src(jpeg, data, decoder->n_bytes);
    jpeg_save_markers(jpeg, JPEG_APP0 + 1, MAX_APP1_BYTES);
    jpeg_read_header(jpeg, TRUE);
    check_header(decoder);
    jpeg_start_decompress(jpeg);

    qcnn_image *image = decoder->image;
    image->width = (int)jpeg->output_width;
    image->height = (int)jpeg->output_height;
    image->channels = jpeg->output_components;
    const size_t row_bytes = (size_t)image->width * (size_t)image->channels;
    image->pixels = qcnn_allocate((size_t)image->height, row_bytes);
    if (!image->pixels)
        leave(decoder, qcnn_fail_memory(decoder->error, row_bytes * (size_t)image->height));
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->pixels + jpeg->output_scanline * row_bytes;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    *decoder->orientation = stored_orientation(jpeg); // finishing forgets the markers
    jpeg_finish_decompress(jpeg);                     // reads up to the end marker: the file must have one
}

// In a function of its own: what a function that calls setjmp changes in its own variables is lost.
static void decode_guarded(jpeg_decoder *decoder, const uint8_t *data)
{
    if (setjmp(decoder->failed) == 0)
        decode(decoder, data);
}

qcnn_status qcnn_decode_jpeg(const uint8_t *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, int *orientation,
                             qcnn_error *error)
{
    *image = (qcnn_image){ 0 };
    jpeg_decoder decoder = { .max_pixels = max_pixels, .n_bytes = n_bytes, .image = image, .orientation = orientation, .error = error };
    decoder.info.err = jpeg_std_error(&decoder.errors);
    decoder.info.client_data = &decoder;
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    decoder.errors.output_message = on_output;
    decoder.progress.progress_monitor = on_progress;
    decode_guarded(&decoder, data);
    jpeg_destroy_decompress(&decoder.info);
    if (decoder.status != QCNN_OK)
        qcnn_image_free(image);
    return decoder.status;
}
