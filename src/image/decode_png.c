// SPDX-License-Identifier: Apache-2.0
// PNG through libpng: palettes and 1, 2, 4 and 16 bits become 8 (of 16 the upper ones, as Pillow does), transparency is
// blended onto white. No gamma correction: networks are trained on pixels as stored. All memory comes from our allocator.

#include <setjmp.h>
#include <string.h>

#include <png.h>

#include "base/checked.h"
#include "base/memory.h"
#include "image/image.h"

enum {
    MAX_CHUNK_BYTES = 1 << 20,  // of chunks that are kept: palette, transparency, EXIF
    PIXELS_PER_BYTE = 8 * 1032, // deflate reaches 1:1032, and a byte holds 8 pixels of 1 bit
    MAX_SIDE = 1 << 30,
};

typedef struct png_decoder {
    png_structp png;
    png_infop info;
    jmp_buf failed;
    const uint8_t *data;
    size_t n_bytes, position;
    uint64_t max_pixels;
    qcnn_image *image;
    int *orientation;
    qcnn_status status;
    qcnn_error *error;
} png_decoder;

__attribute__((noreturn)) static void leave(png_decoder *decoder, qcnn_status status)
{
    decoder->status = status;
    longjmp(decoder->failed, 1);
}

__attribute__((noreturn)) static void on_error(png_structp png, png_const_charp text)
{
    png_decoder *decoder = png_get_error_ptr(png);
    leave(decoder, decoder->status != QCNN_OK ? decoder->status : qcnn_fail(decoder->error, QCNN_ERROR_FORMAT, "PNG: %s", text));
}

static void on_warning(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text; // about ancillary chunks, which are not used
}

static void on_read(png_structp png, png_bytep to, png_size_t n)
{
    png_decoder *decoder = png_get_io_ptr(png);
    if (n > decoder->n_bytes - decoder->position)
        png_error(png, "the file is cut off");
    memcpy(to, decoder->data + decoder->position, n);
    decoder->position += n;
}

static png_voidp on_allocate(png_structp png, png_alloc_size_t n)
{
    void *pointer = qcnn_allocate(n, 1);
    png_decoder *decoder = png_get_mem_ptr(png);
    if (!pointer && decoder->status == QCNN_OK)
        decoder->status = qcnn_fail_memory(decoder->error, n); // libpng's own message would not say which kind of failure
    return pointer;
}

static void on_release(png_structp png, png_voidp pointer)
{
    (void)png;
    qcnn_release(pointer);
}

// Everything but the chunks that make pixels, and EXIF, is skipped unread; damage anywhere is an error.
static void configure(png_decoder *decoder)
{
    static const png_byte exif_chunk[5] = "eXIf";
    png_structp png = decoder->png;
    png_set_read_fn(png, decoder, on_read);
    png_set_user_limits(png, MAX_SIDE, MAX_SIDE);
    png_set_chunk_malloc_max(png, MAX_CHUNK_BYTES);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_AS_DEFAULT, exif_chunk, 1);
    png_set_crc_action(png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(png, 0);
}

// To 8 bits; 1 to 4 channels.
static void ask_for_bytes(const png_decoder *decoder)
{
    png_structp png = decoder->png;
    const int colour = png_get_color_type(png, decoder->info);
    if (colour == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    if (colour == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, decoder->info) < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_valid(png, decoder->info, PNG_INFO_tRNS))
        png_set_tRNS_to_alpha(png);
    png_set_strip_16(png);
}

// In place, dropping the last of n_channels channels.
static void blend_onto_white(uint8_t *pixels, size_t n_pixels, size_t n_channels)
{
    const size_t n_colours = n_channels - 1;
    const uint8_t *from = pixels;
    for (size_t i = 0; i < n_pixels; i++, from += n_channels, pixels += n_colours) {
        const unsigned alpha = from[n_colours];
        for (size_t c = 0; c < n_colours; c++)
            pixels[c] = (uint8_t)((from[c] * alpha + 255 * (255 - alpha) + 127) / 255);
    }
}

static int stored_orientation(const png_decoder *decoder)
{
    png_uint_32 n_bytes = 0;
    png_bytep exif = NULL;
    if (!png_get_eXIf_1(decoder->png, decoder->info, &n_bytes, &exif))
        return 1;
    return qcnn_exif_orientation(exif, n_bytes);
}

// Leaves by longjmp on failure; what is allocated by then hangs on the decoder.
static void decode(png_decoder *decoder)
{
    png_structp png = decoder->png;
    png_infop info = decoder->info;
    configure(decoder);
    png_read_info(png, info);
    const qcnn_status status = qcnn_image_check_size("PNG", png_get_image_width(png, info), png_get_image_height(png, info),
                                                     decoder->max_pixels, decoder->n_bytes, PIXELS_PER_BYTE, decoder->error);
    if (status != QCNN_OK)
        leave(decoder, status);
    ask_for_bytes(decoder);
    const int n_passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);

    qcnn_image *image = decoder->image;
    image->width = (int)png_get_image_width(png, info);
    image->height = (int)png_get_image_height(png, info);
    image->channels = png_get_channels(png, info);
    const size_t row_bytes = png_get_rowbytes(png, info), n_rows = (size_t)image->height;
    image->pixels = qcnn_allocate(n_rows, row_bytes);
    if (!image->pixels)
        leave(decoder, qcnn_fail_memory(decoder->error, n_rows * row_bytes));
    for (int pass = 0; pass < n_passes; pass++)
        for (size_t y = 0; y < n_rows; y++)
            png_read_row(png, image->pixels + y * row_bytes, NULL);
    png_read_end(png, info);
    if (image->channels == 2 || image->channels == 4) {
        blend_onto_white(image->pixels, n_rows * (size_t)image->width, (size_t)image->channels);
        image->channels--;
    }
    *decoder->orientation = stored_orientation(decoder);
}

// In a function of its own: what a function that calls setjmp changes in its own variables is lost.
static void decode_guarded(png_decoder *decoder)
{
    if (setjmp(decoder->failed) != 0)
        return;
    decoder->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, decoder, on_error, on_warning, decoder, on_allocate, on_release);
    decoder->info = decoder->png ? png_create_info_struct(decoder->png) : NULL;
    if (decoder->info)
        decode(decoder);
    else if (decoder->status == QCNN_OK)
        decoder->status = qcnn_fail(decoder->error, QCNN_ERROR_UNSUPPORTED, "PNG: libpng differs from the one this was built for");
}

qcnn_status qcnn_decode_png(const uint8_t *data, size_t n_bytes, uint64_t max_pixels, qcnn_image *image, int *orientation,
                            qcnn_error *error)
{
    *image = (qcnn_image){ 0 };
    png_decoder decoder = { .data = data, .n_bytes = n_bytes, .max_pixels = max_pixels, .image = image, .orientation = orientation };
    decoder.error = error;
    decode_guarded(&decoder);
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    if (decoder.status != QCNN_OK)
        qcnn_image_free(image);
    return decoder.status;
}
