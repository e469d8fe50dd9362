// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Color;
import android.net.Uri;
import java.io.ByteArrayOutputStream;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;

/** Photos as they come: turned, transparent, huge, thin. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = { 26, 35 })
public class DecoderTest {
    private static PhotoDecoder.Photo decode(Uri uri, int side) throws Failure {
        return new PhotoDecoder(Screen.context().getContentResolver(), (in, options) -> BitmapFactory.decodeStream(in, null, options)).decode(uri, side);
    }

    /** The same JPEG with an EXIF block that holds nothing but the orientation. */
    private static byte[] withOrientation(byte[] jpeg, int orientation) {
        byte[] exif = { (byte) 0xff, (byte) 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1, 0,
                        (byte) orientation, 0, 0, 0, 0, 0, 0 };
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        out.write(jpeg, 0, 2);
        out.write(exif, 0, exif.length);
        out.write(jpeg, 2, jpeg.length - 2);
        return out.toByteArray();
    }

    /** Red upper left, green upper right, blue lower left, grey lower right. */
    private static Bitmap corners() {
        Bitmap bitmap = Bitmap.createBitmap(64, 32, Bitmap.Config.ARGB_8888);
        for (int y = 0; y < 32; y++)
            for (int x = 0; x < 64; x++)
                bitmap.setPixel(x, y, y < 16 ? x < 32 ? Color.RED : Color.GREEN : x < 32 ? Color.BLUE : Color.GRAY);
        return bitmap;
    }

    private static char colour(int pixel) {
        int r = Color.red(pixel), g = Color.green(pixel), b = Color.blue(pixel);
        return r > g + 60 ? 'R' : g > r + 60 ? 'G' : b > r + 60 ? 'B' : '-';
    }

    @Test
    public void orientations() throws Exception {
        byte[] jpeg = Screen.encode(corners(), Bitmap.CompressFormat.JPEG);
        String[] seen = { "RGB-", "GR-B", "-BGR", "B-RG", "RBG-", "BR-G", "-GBR", "G-RB" }; // rows from above, for orientations 1 to 8
        for (int orientation = 1; orientation <= 8; orientation++) {
            Bitmap bitmap = decode(Screen.content("o" + orientation + ".jpg", withOrientation(jpeg, orientation)), 10).bitmap;
            int w = bitmap.getWidth(), h = bitmap.getHeight();
            assertEquals(orientation > 4, h > w);
            String found = "" + colour(bitmap.getPixel(w / 4, h / 4)) + colour(bitmap.getPixel(3 * w / 4, h / 4))
                           + colour(bitmap.getPixel(w / 4, 3 * h / 4)) + colour(bitmap.getPixel(3 * w / 4, 3 * h / 4));
            assertEquals("orientation " + orientation, seen[orientation - 1], found);
        }
    }

    @Test
    public void transparentPartsAreWhite() throws Exception {
        Bitmap bitmap = Bitmap.createBitmap(8, 8, Bitmap.Config.ARGB_8888);
        bitmap.setPixel(0, 0, Color.RED);
        Bitmap decoded = decode(Screen.content("t.png", Screen.encode(bitmap, Bitmap.CompressFormat.PNG)), 8).bitmap;
        assertEquals(Color.RED, decoded.getPixel(0, 0));
        assertEquals(Color.WHITE, decoded.getPixel(4, 4));
    }

    @Test
    public void reductions() {
        assertEquals(1, PhotoDecoder.reduction(64, 64, 512));
        assertEquals(1, PhotoDecoder.reduction(1023, 1023, 512));
        assertEquals(2, PhotoDecoder.reduction(1024, 1024, 512));
        assertEquals(4, PhotoDecoder.reduction(4000, 3000, 512));
        assertEquals(2, PhotoDecoder.reduction(20000, 400, 512)); // a panorama: memory decides
        assertTrue(PhotoDecoder.reduction(30000, 30000, 512) >= 16);
    }

    @Test
    public void twelveMegapixels() throws Exception {
        Bitmap large = Screen.drawing(4000, 3000);
        byte[] jpeg = Screen.encode(large, Bitmap.CompressFormat.JPEG);
        PhotoDecoder.Photo photo = decode(Screen.content("large.jpg", jpeg), 512);
        assertEquals(4000, photo.width);
        assertEquals(1000, photo.bitmap.getWidth());
        assertTrue(photo.bitmap.getByteCount() + " bytes", photo.bitmap.getByteCount() <= 4 << 20);
        // the classes stay those of the photo decoded in full
        Screen.app().classifier.start(Screen.content("large.jpg", jpeg));
        Screen.awaitAnswer();
        Result reduced = Screen.app().classifier.result;
        Screen.app().classifier.source = (in, options) -> {
            if (!options.inJustDecodeBounds)
                options.inSampleSize = 1;
            return BitmapFactory.decodeStream(in, null, options);
        };
        Screen.app().classifier.start(Screen.content("large.jpg", jpeg));
        Screen.awaitAnswer();
        Result full = Screen.app().classifier.result;
        assertEquals(full.labels[0], reduced.labels[0]);
        assertEquals(full.probabilities[0], reduced.probabilities[0], 0.03);
    }
}
