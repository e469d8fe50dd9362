// SPDX-License-Identifier: Apache-2.0
// Decodes photographs as the command does and writes width, height, channels (big-endian, as Java reads them) and the pixels of
// each to standard output, so that the Java class can be compared with the command on the same pixels.

#include <stdio.h>

#include "qcnn_image.h"

static void write_int(int value)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        putchar(value >> shift & 255);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        qcnn_image image;
        qcnn_error error;
        if (qcnn_image_read(argv[i], &image, &error)) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        write_int(image.width);
        write_int(image.height);
        write_int(image.channels);
        fwrite(image.pixels, (size_t)image.channels, (size_t)image.width * (size_t)image.height, stdout);
        qcnn_image_free(&image);
    }
    return 0;
}
