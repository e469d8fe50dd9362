// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.content.ContentResolver;
import android.content.Context;
import android.graphics.Bitmap;
import android.graphics.Canvas;
import android.graphics.Color;
import android.graphics.LinearGradient;
import android.graphics.Paint;
import android.graphics.Shader;
import android.net.Uri;
import android.os.Handler;
import android.os.Looper;
import android.view.PixelCopy;
import android.view.View;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import org.robolectric.RuntimeEnvironment;

/** What the tests of several screens use: waiting for the worker, photos to choose, system bars, pictures of screens. */
final class Screen {
    static LookupApp app() {
        return (LookupApp) RuntimeEnvironment.getApplication();
    }

    /** Lets the main thread work until the condition holds; the app's own threads run meanwhile. */
    static void await(String what, BooleanSupplier condition) throws InterruptedException {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
        do {
            shadowOf(Looper.getMainLooper()).idle();
            if (condition.getAsBoolean())
                return;
            Thread.sleep(5);
        } while (System.nanoTime() < end);
        throw new AssertionError("waited in vain: " + what);
    }

    static void awaitWorkers() throws Exception {
        app().worker.submit(() -> {}).get(60, TimeUnit.SECONDS);
        app().pictures.submit(() -> {}).get(60, TimeUnit.SECONDS);
        shadowOf(Looper.getMainLooper()).idle();
        app().pictures.submit(() -> {}).get(60, TimeUnit.SECONDS);
        shadowOf(Looper.getMainLooper()).idle();
    }

    static void awaitAnswer() throws InterruptedException {
        await("an answer", () -> app().classifier.stage == Classifier.Stage.DONE || app().classifier.stage == Classifier.Stage.FAILED);
    }

    // ---- photos --------------------------------------------------------------------------------------------------------

    /** Another app's content with these bytes; it can be opened any number of times. */
    static Uri content(String name, byte[] bytes) {
        Uri uri = Uri.parse("content://other.app/" + name);
        ContentResolver resolver = RuntimeEnvironment.getApplication().getContentResolver();
        shadowOf(resolver).registerInputStreamSupplier(uri, () -> new ByteArrayInputStream(bytes));
        return uri;
    }

    static Uri content(File file) throws IOException {
        return content(file.getName(), Files.readAllBytes(file.toPath()));
    }

    static byte[] encode(Bitmap bitmap, Bitmap.CompressFormat format) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        assertTrue(bitmap.compress(format, 95, out));
        return out.toByteArray();
    }

    /** A picture that is different everywhere: a gradient with a disc in its upper left. */
    static Bitmap drawing(int width, int height) {
        Bitmap bitmap = Bitmap.createBitmap(width, height, Bitmap.Config.ARGB_8888);
        Canvas canvas = new Canvas(bitmap);
        Paint paint = new Paint(Paint.ANTI_ALIAS_FLAG);
        paint.setShader(new LinearGradient(0, 0, width, height, Color.rgb(20, 90, 160), Color.rgb(240, 200, 120), Shader.TileMode.CLAMP));
        canvas.drawRect(0, 0, width, height, paint);
        paint.setShader(null);
        paint.setColor(Color.rgb(250, 120, 20));
        canvas.drawCircle(width * 0.3f, height * 0.3f, Math.min(width, height) * 0.2f, paint);
        return bitmap;
    }

    static Uri jpeg(String name, int width, int height) {
        return content(name, encode(drawing(width, height), Bitmap.CompressFormat.JPEG));
    }

    /** The project's own rendered picture, if the build has made it. */
    static File sample() {
        return new File(System.getProperty("qcnn.sample"));
    }

    // ---- pictures of screens -------------------------------------------------------------------------------------------

    /** Status and navigation bar with their insets: what Robolectric keeps to itself. Set anew in every test. */
    static void systemBars(String status, String navigation) throws ReflectiveOperationException {
        Class<?> kind = Class.forName("org.robolectric.shadows.SystemUi");
        Method current = kind.getDeclaredMethod("systemUiForDefaultDisplay");
        current.setAccessible(true);
        Object ui = current.invoke(null);
        Field statusField = kind.getDeclaredField(status), navigationField = kind.getDeclaredField(navigation);
        statusField.setAccessible(true);
        navigationField.setAccessible(true);
        for (Method method : kind.getDeclaredMethods())
            if (method.getName().equals("setBehavior")) {
                method.setAccessible(true);
                method.invoke(ui, statusField.get(null), navigationField.get(null));
            }
    }

    /** Draws the window to build/android/screens/NAME.png. */
    static void draw(Activity activity, String name) throws Exception {
        shadowOf(Looper.getMainLooper()).idle();
        View decor = activity.getWindow().getDecorView();
        Bitmap bitmap = Bitmap.createBitmap(decor.getWidth(), decor.getHeight(), Bitmap.Config.ARGB_8888);
        int[] outcome = { -1 };
        PixelCopy.request(activity.getWindow(), bitmap, result -> outcome[0] = result, new Handler(Looper.getMainLooper()));
        shadowOf(Looper.getMainLooper()).idle();
        assertEquals(PixelCopy.SUCCESS, outcome[0]);
        File file = new File(System.getProperty("qcnn.screens"), name + ".png");
        file.getParentFile().mkdirs();
        try (OutputStream out = new FileOutputStream(file)) {
            assertTrue(bitmap.compress(Bitmap.CompressFormat.PNG, 100, out));
        }
    }

    static Context context() {
        return RuntimeEnvironment.getApplication();
    }

    private Screen() {
    }
}
