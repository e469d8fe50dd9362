// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;
import static org.junit.Assume.assumeTrue;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.json.JSONArray;
import org.json.JSONObject;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.annotation.Config;

/** What the app says of photos, decoded by the platform, beside what the command says. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35)
public class ClassifyTest {
    private static final int PHOTOS = 200;

    private static byte[] run(List<String> command) throws Exception {
        Process process = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        byte[] buffer = new byte[1 << 16];
        for (int n; (n = process.getInputStream().read(buffer)) > 0;)
            out.write(buffer, 0, n);
        assertEquals(command.get(0), 0, process.waitFor());
        return out.toByteArray();
    }

    private static String build(String name) {
        return System.getProperty("qcnn.root") + "/build/" + name;
    }

    private static JSONArray command(List<File> photos) throws Exception {
        List<String> command = new ArrayList<>(Arrays.asList(build("qcnn"), "classify", build("android/assets/models/" + ModelStore.name(Screen.app().models.selected()) + ".qcnn"), "--json"));
        for (File photo : photos)
            command.add(photo.getPath());
        return new JSONObject(new String(run(command), "UTF-8")).getJSONArray("images");
    }

    private static Result app(File photo) throws Exception {
        Screen.app().classifier.start(Screen.content(photo));
        Screen.awaitAnswer();
        assertNotNull(Screen.app().classifier.message, Screen.app().classifier.result);
        return Screen.app().classifier.result;
    }

    /** Largest difference of a colour between the platform's decoder and the command's. */
    private static int decoderDifference(File photo) throws Exception {
        DataInputStream in = new DataInputStream(new java.io.ByteArrayInputStream(run(Arrays.asList(build("decode_photos"), photo.getPath()))));
        int width = in.readInt(), height = in.readInt(), channels = in.readInt(), worst = 0;
        byte[] expected = new byte[width * height * channels];
        in.readFully(expected);
        Bitmap bitmap = BitmapFactory.decodeFile(photo.getPath());
        ByteBuffer pixels = Classifier.pixels(bitmap);
        assertEquals(width, bitmap.getWidth());
        assertEquals(height, bitmap.getHeight());
        for (int i = 0; i < width * height; i++)
            for (int c = 0; c < 3; c++)
                worst = Math.max(worst, Math.abs((pixels.get(4 * i + c) & 255) - (expected[i * channels + (channels == 3 ? c : 0)] & 255)));
        return worst;
    }

    private static void assertSame(Result found, JSONObject expected) throws Exception {
        JSONArray top = expected.getJSONArray("top");
        for (int i = 0; i < found.labels.length; i++) {
            assertEquals(expected.getString("file"), top.getJSONObject(i).getString("label"), found.labels[i]);
            assertEquals(expected.getString("file"), top.getJSONObject(i).getDouble("probability"), found.probabilities[i], 1e-5);
        }
    }

    @Test
    public void sample() throws Exception {
        File photo = Screen.sample();
        assumeTrue("no sample picture (python3-numpy, python3-pil)", photo.exists());
        assertEquals("both decode alike", 0, decoderDifference(photo));
        assertSame(app(photo), command(Arrays.asList(photo)).getJSONObject(0));
    }

    @Test
    public void photos() throws Exception {
        File[] all = new File(System.getProperty("qcnn.root"), "../shared/data/alexnet200/val").listFiles((folder, name) -> name.endsWith(".jpg"));
        assumeTrue("SKIPPED: 200 photos, because ../shared/data is not there", all != null);
        Arrays.sort(all);
        List<File> photos = new ArrayList<>();
        for (int i = 0; i < PHOTOS; i++)
            photos.add(all[i * (all.length / PHOTOS)]);
        JSONArray expected = command(photos);
        for (int i = 0; i < PHOTOS; i++)
            assertSame(app(photos.get(i)), expected.getJSONObject(i));
        System.out.println(PHOTOS + " photos, decoded by the platform: the five classes of each equal those of the command");
    }
}
