// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.content.Intent;
import android.content.res.Configuration;
import android.graphics.Bitmap;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.widget.TextView;
import java.io.InputStream;
import java.io.OutputStream;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.shadows.ShadowActivity;

/** Photos in, results out: choosing, taking, sharing, turning the phone, the death of the process, and what goes wrong. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = { 26, 35 })
public class MainTest {
    private static ActivityController<MainActivity> start() {
        return Robolectric.buildActivity(MainActivity.class).setup();
    }

    private static boolean visible(Activity activity, int id) {
        return activity.findViewById(id).getVisibility() == View.VISIBLE;
    }

    private static String text(Activity activity, int id) {
        return ((TextView) activity.findViewById(id)).getText().toString();
    }

    private static String notice(Activity activity) {
        return visible(activity, R.id.notice) ? text(activity, R.id.notice) : null;
    }

    private static void answer(Activity activity, int resultCode, Intent data) {
        ShadowActivity.IntentForResult request = shadowOf(activity).getNextStartedActivityForResult();
        assertNotNull("nothing was asked for", request);
        shadowOf(activity).receiveResult(request.intent, resultCode, data);
    }

    private static void assertShown(Activity activity) throws Exception {
        Screen.awaitAnswer();
        assertNull(notice(activity));
        assertTrue(visible(activity, R.id.result) && visible(activity, R.id.photo) && !visible(activity, R.id.empty));
        assertEquals(Result.firstName(Screen.app().classifier.result.labels[0]), text(activity, R.id.best));
    }

    private static void assertFails(Activity activity, int message) throws Exception {
        Screen.await("a message", () -> notice(activity) != null);
        assertEquals(activity.getString(message), notice(activity));
        assertFalse(visible(activity, R.id.working));
    }

    /** What another process would find: the app's files, and nothing in memory. */
    private static void forgetEverything() {
        LookupApp app = Screen.app();
        app.classifier = new Classifier(app);
        app.benchmark = new Benchmark(app);
        app.history = new History(app.getFilesDir());
    }

    @Test
    public void choose() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            MainActivity activity = controller.get();
            assertTrue(visible(activity, R.id.empty) && !visible(activity, R.id.result));
            activity.findViewById(R.id.choose).performClick();
            Intent asked = shadowOf(activity).peekNextStartedActivityForResult().intent;
            assertEquals(Build.VERSION.SDK_INT >= 33 ? MediaStore.ACTION_PICK_IMAGES : Intent.ACTION_GET_CONTENT, asked.getAction());
            assertEquals("image/*", asked.getType());
            answer(activity, Activity.RESULT_OK, new Intent().setData(Screen.jpeg("chosen", 320, 240)));
            assertTrue(visible(activity, R.id.working));
            assertShown(activity);
            Result result = Screen.app().classifier.result;
            assertEquals(320, result.width);
            assertTrue(result.networkMs > 0 && result.decodeMs > 0 && result.preprocessMs > 0);
            assertEquals(Math.min(5, result.classes), result.labels.length);
            assertTrue(text(activity, R.id.model_line).contains(result.model));
        }
    }

    @Test
    public void take() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            MainActivity activity = controller.get();
            activity.findViewById(R.id.camera).performClick();
            Intent asked = shadowOf(activity).peekNextStartedActivityForResult().intent;
            Uri place = asked.getParcelableExtra(MediaStore.EXTRA_OUTPUT);
            assertTrue((asked.getFlags() & Intent.FLAG_GRANT_WRITE_URI_PERMISSION) != 0);
            try (OutputStream out = activity.getContentResolver().openOutputStream(place)) {
                out.write(Screen.encode(Screen.drawing(400, 300), Bitmap.CompressFormat.JPEG));
            }
            Bundle saved = new Bundle();
            controller.saveInstanceState(saved); // the camera app is heavy: this one may be killed meanwhile
            forgetEverything();
            try (ActivityController<MainActivity> later = Robolectric.buildActivity(MainActivity.class).setup(saved)) {
                shadowOf(activity).getNextStartedActivityForResult();
                shadowOf(later.get()).callOnActivityResult(2, Activity.RESULT_OK, null);
                assertShown(later.get());
                assertEquals(400, Screen.app().classifier.result.width);
            }
        }
    }

    @Test
    public void sharedIntoTheApp() throws Exception {
        Intent send = new Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, Screen.jpeg("sent", 200, 300));
        try (ActivityController<MainActivity> controller = Robolectric.buildActivity(MainActivity.class, send).setup()) {
            assertShown(controller.get());
            long first = Screen.app().classifier.result.id;
            controller.newIntent(new Intent(Intent.ACTION_SEND).setType("image/png").putExtra(Intent.EXTRA_STREAM, Screen.jpeg("again", 250, 300)));
            Screen.await("the second", () -> Screen.app().classifier.result != null && Screen.app().classifier.result.id != first);
            assertEquals(250, Screen.app().classifier.result.width);
        }
    }

    @Test
    public void sharedOutOfTheApp() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            MainActivity activity = controller.get();
            Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
            assertShown(activity);
            activity.findViewById(R.id.share).performClick();
            Intent chooser = shadowOf(activity).getNextStartedActivity();
            Intent send = chooser.getParcelableExtra(Intent.EXTRA_INTENT);
            assertTrue(send.getStringExtra(Intent.EXTRA_TEXT).contains(text(activity, R.id.best)));
            Uri photo = send.getParcelableExtra(Intent.EXTRA_STREAM);
            assertEquals("image/jpeg", activity.getContentResolver().getType(photo));
            try (InputStream in = activity.getContentResolver().openInputStream(photo)) {
                assertEquals("a JPEG", 0xff, in.read());
            }
        }
    }

    @Test
    public void turned() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
            assertShown(controller.get());
            long id = Screen.app().classifier.result.id;
            RuntimeEnvironment.setQualifiers("+land");
            Configuration turned = RuntimeEnvironment.getApplication().getResources().getConfiguration();
            controller.configurationChange(turned).visible();
            assertShown(controller.get());
            assertEquals(id, Screen.app().classifier.result.id);
            // and in the middle of work
            Screen.app().classifier.start(Screen.jpeg("next", 360, 200));
            controller.recreate().visible();
            assertShown(controller.get());
            assertEquals(360, Screen.app().classifier.result.width);
        }
    }

    @Test
    public void processDies() throws Exception {
        Bundle shown = new Bundle(), working = new Bundle();
        try (ActivityController<MainActivity> controller = start()) {
            Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
            assertShown(controller.get());
            controller.saveInstanceState(shown);
            Screen.app().classifier.start(Screen.jpeg("pending", 340, 200));
            controller.saveInstanceState(working);
            Screen.awaitAnswer();
        }
        forgetEverything();
        try (ActivityController<MainActivity> controller = Robolectric.buildActivity(MainActivity.class).setup(shown)) {
            assertShown(controller.get());
            assertEquals(300, Screen.app().classifier.result.width);
        }
        forgetEverything();
        try (ActivityController<MainActivity> controller = Robolectric.buildActivity(MainActivity.class).setup(working)) {
            assertShown(controller.get());
            assertEquals(340, Screen.app().classifier.result.width);
        }
    }

    @Test
    public void newestPhotoWins() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            for (int i = 1; i <= 5; i++)
                Screen.app().classifier.start(Screen.jpeg("photo" + i, 100 * i, 100));
            assertShown(controller.get());
            Screen.awaitWorkers();
            assertEquals(500, Screen.app().classifier.result.width);
            assertEquals(5, Screen.app().history.list().size());
        }
    }

    // ---- what goes wrong -----------------------------------------------------------------------------------------------

    @Test
    public void cancelled() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            MainActivity activity = controller.get();
            activity.findViewById(R.id.choose).performClick();
            answer(activity, Activity.RESULT_CANCELED, null);
            assertFails(activity, R.string.nothing_chosen);
            controller.recreate().visible();
            assertFails(controller.get(), R.string.nothing_chosen);
            controller.get().findViewById(R.id.camera).performClick();
            answer(controller.get(), Activity.RESULT_CANCELED, null);
            assertFails(controller.get(), R.string.nothing_chosen);
        }
    }

    @Test
    public void brokenPicture() throws Exception {
        byte[] whole = Screen.encode(Screen.drawing(300, 200), Bitmap.CompressFormat.JPEG);
        byte[][] broken = { {}, "not a picture".getBytes(), java.util.Arrays.copyOf(whole, 100) };
        try (ActivityController<MainActivity> controller = start()) {
            for (int i = 0; i < broken.length; i++) {
                Screen.app().classifier.start(Screen.content("broken" + i, broken[i]));
                Screen.awaitAnswer();
                assertFails(controller.get(), R.string.not_a_picture);
                assertTrue(visible(controller.get(), R.id.empty));
            }
            Screen.app().classifier.start(Screen.jpeg("whole", 300, 200));
            assertShown(controller.get());
        }
    }

    @Test
    public void photoThatIsGone() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            shadowOf(controller.get().getContentResolver()).registerInputStreamSupplier(Uri.parse("content://other.app/gone"), () -> {
                throw new SecurityException("no permission any more");
            });
            Screen.app().classifier.start(Uri.parse("content://other.app/gone"));
            assertFails(controller.get(), R.string.cannot_open);
        }
    }

    @Test
    public void pathsAreRefused() throws Exception {
        Uri own = Uri.fromFile(RuntimeEnvironment.getApplication().getFilesDir());
        Intent send = new Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, own);
        try (ActivityController<MainActivity> controller = Robolectric.buildActivity(MainActivity.class, send).setup()) {
            assertFails(controller.get(), R.string.cannot_open);
            controller.newIntent(new Intent(Intent.ACTION_SEND).setType("text/plain"));
            assertFails(controller.get(), R.string.cannot_open);
            controller.newIntent(new Intent(Intent.ACTION_SEND).setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, new Bundle())); // no address
            assertFails(controller.get(), R.string.cannot_open);
        }
    }

    @Test
    public void noMemory() throws Exception {
        try (ActivityController<MainActivity> controller = start()) {
            Classifier classifier = Screen.app().classifier;
            PhotoDecoder.Source real = classifier.source;
            int[] decoded = { 0 };
            // As much as a quarter of the size fits: the reduction goes on until it does.
            classifier.source = (in, options) -> {
                if (!options.inJustDecodeBounds && options.inSampleSize < 4)
                    throw new OutOfMemoryError();
                decoded[0]++;
                return real.decode(in, options);
            };
            classifier.start(Screen.jpeg("large", 800, 600));
            assertShown(controller.get());
            assertNotEquals(0, decoded[0]);
            classifier.source = (in, options) -> {
                if (!options.inJustDecodeBounds)
                    throw new OutOfMemoryError();
                return real.decode(in, options);
            };
            classifier.start(Screen.jpeg("larger", 800, 600));
            assertFails(controller.get(), R.string.too_large);
        }
    }

    @Test
    public void noModel() throws Exception {
        LookupApp app = Screen.app();
        app.models = new ModelStore(app) {
            @Override
            java.util.List<String> ids() {
                return new java.util.ArrayList<>();
            }
        };
        app.engine = new Engine(app.models);
        try (ActivityController<MainActivity> controller = start()) {
            app.classifier.start(Screen.jpeg("photo", 300, 200));
            assertFails(controller.get(), R.string.no_model);
        }
    }

    @Test
    public void noOtherApps() throws Exception {
        shadowOf(RuntimeEnvironment.getApplication()).checkActivities(true); // none is installed
        try (ActivityController<MainActivity> controller = start()) {
            controller.get().findViewById(R.id.choose).performClick();
            assertFails(controller.get(), R.string.no_gallery);
            controller.get().findViewById(R.id.camera).performClick();
            assertFails(controller.get(), R.string.no_camera);
        }
    }
}
