// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.Matrix;
import android.media.ExifInterface;
import android.net.Uri;
import java.io.BufferedInputStream;
import java.io.ByteArrayInputStream;
import java.io.FileNotFoundException;
import java.io.IOException;
import java.io.InputStream;

/** Photos from other apps: decoded no larger than needed, turned as they were taken, opaque. */
final class PhotoDecoder {
    private static final long MAX_PIXELS = 4_000_000; // 16 MB as a bitmap
    private static final int MAX_ATTEMPTS = 3;

    static final class Photo {
        final Bitmap bitmap; // ARGB_8888, no transparency
        final int width, height; // before the reduction

        Photo(Bitmap bitmap, int width, int height) {
            this.bitmap = bitmap;
            this.width = width;
            this.height = height;
        }
    }

    /** BitmapFactory.decodeStream, or what a test puts in its place. */
    interface Source {
        Bitmap decode(InputStream in, BitmapFactory.Options options);
    }

    private final ContentResolver resolver;
    private final Source source;

    PhotoDecoder(ContentResolver resolver, Source source) {
        this.resolver = resolver;
        this.source = source;
    }

    /** The shorter side keeps `side` pixels where it has them. */
    Photo decode(Uri uri, int side) throws Failure {
        try {
            BitmapFactory.Options options = new BitmapFactory.Options();
            options.inJustDecodeBounds = true;
            decodeStream(uri, options);
            int width = options.outWidth, height = options.outHeight;
            if (width <= 0 || height <= 0)
                throw new Failure(R.string.not_a_picture);
            Bitmap bitmap = decodeReduced(uri, reduction(width, height, side));
            if (bitmap == null)
                throw new Failure(R.string.not_a_picture);
            return new Photo(turn(opaque(bitmap), orientation(uri, options.outMimeType)), width, height);
        } catch (OutOfMemoryError e) {
            throw new Failure(R.string.too_large);
        } catch (IOException | RuntimeException e) { // the provider is another app and may throw anything
            throw new Failure(R.string.cannot_open);
        }
    }

    /** The power of two to divide the sides by. */
    static int reduction(int width, int height, int side) {
        int reduction = 1;
        while (Math.min(width, height) / (2 * reduction) >= side || (long) (width / reduction) * (height / reduction) > MAX_PIXELS)
            reduction *= 2;
        return reduction;
    }

    private Bitmap decodeReduced(Uri uri, int reduction) throws IOException {
        for (int attempt = 1;; attempt++) {
            BitmapFactory.Options options = new BitmapFactory.Options();
            options.inSampleSize = reduction;
            options.inPreferredConfig = Bitmap.Config.ARGB_8888;
            options.inPremultiplied = true;
            try {
                return decodeStream(uri, options);
            } catch (OutOfMemoryError e) {
                if (attempt == MAX_ATTEMPTS)
                    throw e;
                reduction *= 2;
            }
        }
    }

    private Bitmap decodeStream(Uri uri, BitmapFactory.Options options) throws IOException {
        try (InputStream in = open(uri)) {
            return source.decode(new BufferedInputStream(in, 1 << 16), options);
        }
    }

    private InputStream open(Uri uri) throws IOException {
        InputStream in = resolver.openInputStream(uri);
        if (in == null)
            throw new FileNotFoundException(uri.toString());
        return in;
    }

    /** Transparent parts become white, as the command makes them. */
    private static Bitmap opaque(Bitmap bitmap) {
        if (!bitmap.hasAlpha() && bitmap.getConfig() == Bitmap.Config.ARGB_8888)
            return bitmap;
        Bitmap white = Bitmap.createBitmap(bitmap.getWidth(), bitmap.getHeight(), Bitmap.Config.ARGB_8888);
        Canvas canvas = new Canvas(white);
        canvas.drawColor(Color.WHITE);
        canvas.drawBitmap(bitmap, 0, 0, null);
        return white;
    }

    /** The decoders of HEIF and AVIF turn the picture themselves. */
    private int orientation(Uri uri, String type) {
        if (type != null && (type.contains("hei") || type.contains("avif")))
            return ExifInterface.ORIENTATION_NORMAL;
        try (InputStream in = open(uri)) {
            InputStream head = "image/jpeg".equals(type) ? new ByteArrayInputStream(head(in)) : in;
            return new ExifInterface(head).getAttributeInt(ExifInterface.TAG_ORIENTATION, ExifInterface.ORIENTATION_NORMAL);
        } catch (IOException | RuntimeException e) {
            return ExifInterface.ORIENTATION_NORMAL; // no EXIF in this kind of file
        }
    }

    /** The start of a file, where a JPEG has its EXIF, followed by zeros: Android 8's ExifInterface wants 5,000 bytes at least. */
    private static byte[] head(InputStream in) throws IOException {
        byte[] head = new byte[256 << 10];
        for (int n = 0, read; n < head.length && (read = in.read(head, n, head.length - n)) > 0;)
            n += read;
        return head;
    }

    static Bitmap turn(Bitmap bitmap, int orientation) {
        Matrix matrix = new Matrix();
        switch (orientation) {
        case ExifInterface.ORIENTATION_FLIP_HORIZONTAL: matrix.setScale(-1, 1); break;
        case ExifInterface.ORIENTATION_ROTATE_180: matrix.setRotate(180); break;
        case ExifInterface.ORIENTATION_FLIP_VERTICAL: matrix.setScale(1, -1); break;
        case ExifInterface.ORIENTATION_TRANSPOSE: matrix.setRotate(90); matrix.postScale(-1, 1); break;
        case ExifInterface.ORIENTATION_ROTATE_90: matrix.setRotate(90); break;
        case ExifInterface.ORIENTATION_TRANSVERSE: matrix.setRotate(-90); matrix.postScale(-1, 1); break;
        case ExifInterface.ORIENTATION_ROTATE_270: matrix.setRotate(-90); break;
        default: return bitmap;
        }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.getWidth(), bitmap.getHeight(), matrix, false);
    }
}
