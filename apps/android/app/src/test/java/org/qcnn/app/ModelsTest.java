// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertFalse;
import static org.junit.Assert.assertNotSame;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.Activity;
import android.app.AlertDialog;
import android.content.Intent;
import android.net.Uri;
import android.view.View;
import android.view.ViewGroup;
import android.widget.TextView;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.util.Arrays;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.qcnn.engine.Network;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.shadows.ShadowAlertDialog;

/** Models: the bundled one, others brought in, broken ones refused with the old one staying. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = { 26, 35 })
public class ModelsTest {
    private static byte[] bundled() throws Exception {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try (InputStream in = Screen.context().getAssets().open("models/" + ModelStore.name(Screen.app().models.ids().get(0)) + ".qcnn")) {
            Files.copy(in, out);
        }
        return out.toByteArray();
    }

    private static void choose(ModelsActivity activity, Uri uri) throws Exception {
        activity.findViewById(R.id.open).performClick();
        Intent asked = shadowOf(activity).getNextStartedActivityForResult().intent;
        assertEquals(Intent.ACTION_OPEN_DOCUMENT, asked.getAction());
        shadowOf(activity).receiveResult(asked, Activity.RESULT_OK, new Intent().setData(uri));
        Screen.awaitWorkers();
        Screen.awaitWorkers(); // the list is read after the file
    }

    private static String notice(Activity activity) {
        TextView view = activity.findViewById(R.id.notice);
        return view.getVisibility() == View.VISIBLE ? view.getText().toString() : null;
    }

    private static File folder() {
        return new File(RuntimeEnvironment.getApplication().getFilesDir(), "models");
    }

    @Test
    public void openSelectDelete() throws Exception {
        String before = Screen.app().models.selected();
        int count = Screen.app().models.ids().size();
        try (ActivityController<ModelsActivity> controller = Robolectric.buildActivity(ModelsActivity.class).setup()) {
            ModelsActivity activity = controller.get();
            Screen.awaitWorkers();
            ViewGroup list = activity.findViewById(R.id.list);
            assertEquals(count, list.getChildCount());
            choose(activity, Screen.content("my%20net.qcnn", bundled()));
            assertEquals(count + 1, list.getChildCount());
            assertEquals("file:my_net.qcnn", Screen.app().models.selected());
            assertEquals(activity.getString(R.string.model_opened, "my_net"), notice(activity));

            choose(activity, Screen.content("my%20net.qcnn", bundled())); // the same name again
            assertEquals("file:my_net-2.qcnn", Screen.app().models.selected());
            Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
            Screen.awaitAnswer();
            assertEquals("my_net-2", Screen.app().classifier.result.model);

            list.getChildAt(0).performClick();
            Screen.awaitWorkers();
            assertEquals(before, Screen.app().models.selected());

            View opened = list.getChildAt(count);
            opened.findViewById(R.id.delete).performClick();
            ((AlertDialog) ShadowAlertDialog.getLatestDialog()).getButton(AlertDialog.BUTTON_POSITIVE).performClick();
            Screen.awaitWorkers();
            Screen.awaitWorkers();
            assertEquals(count + 1, list.getChildCount());
        }
        // another process finds the same
        assertEquals(before, new ModelStore(Screen.context()).selected());
    }

    @Test
    public void brokenOnesAreRefused() throws Exception {
        byte[] whole = bundled(), flipped = whole.clone();
        flipped[whole.length / 3] ^= 0x10;
        byte[][] broken = { {}, "no model".getBytes(), Arrays.copyOf(whole, whole.length / 2), flipped };
        String before = Screen.app().models.selected();
        try (ActivityController<ModelsActivity> controller = Robolectric.buildActivity(ModelsActivity.class).setup()) {
            for (int i = 0; i < broken.length; i++) {
                choose(controller.get(), Screen.content("broken" + i + ".qcnn", broken[i]));
                String start = controller.get().getString(R.string.model_broken, "").split("\\(")[0].trim();
                assertTrue(i + ": " + notice(controller.get()), notice(controller.get()).startsWith(start));
                assertEquals(before, Screen.app().models.selected());
            }
            Uri gone = Uri.parse("content://other.app/gone");
            shadowOf(controller.get().getContentResolver()).registerInputStreamSupplier(gone, () -> { throw new SecurityException(); });
            choose(controller.get(), gone);
            assertEquals(controller.get().getString(R.string.model_unreadable), notice(controller.get()));
            controller.recreate().visible();
            assertEquals(controller.get().getString(R.string.model_unreadable), notice(controller.get()));
        }
        String[] left = folder().list();
        assertTrue("nothing is left behind: " + Arrays.toString(left), left == null || left.length == 0);
        Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
        Screen.awaitAnswer();
        assertNull(Screen.app().classifier.message);
    }

    @Test
    public void networksThatAreNoClassifiers() throws Exception {
        byte[] golden = java.nio.file.Files.readAllBytes(java.nio.file.Paths.get(System.getProperty("qcnn.root"), "tests/golden/every_op.qcnn"));
        try (ActivityController<ModelsActivity> controller = Robolectric.buildActivity(ModelsActivity.class).setup()) {
            choose(controller.get(), Screen.content("every_op.qcnn", golden));
            String said = notice(controller.get());
            assertTrue(said, said.contains(controller.get().getString(R.string.no_preprocessing)) || said.contains(controller.get().getString(R.string.not_a_classifier)));
        }
    }

    @Test
    public void aModelThatVanishes() throws Exception {
        try (ActivityController<ModelsActivity> controller = Robolectric.buildActivity(ModelsActivity.class).setup()) {
            choose(controller.get(), Screen.content("net.qcnn", bundled()));
        }
        assertTrue(new File(folder(), "net.qcnn").delete());
        assertTrue(ModelStore.isBundled(Screen.app().models.selected()));
        Screen.app().classifier.start(Screen.jpeg("photo", 300, 200));
        Screen.awaitAnswer();
        assertNull(Screen.app().classifier.message);
    }

    @Test
    public void aNameUsedAgain() throws Exception {
        LookupApp app = Screen.app();
        try (ActivityController<ModelsActivity> controller = Robolectric.buildActivity(ModelsActivity.class).setup()) {
            choose(controller.get(), Screen.content("net.qcnn", bundled()));
            Network first = app.worker.submit(() -> app.engine.network()).get();
            ViewGroup list = controller.get().findViewById(R.id.list);
            list.getChildAt(list.getChildCount() - 1).findViewById(R.id.delete).performClick();
            ((AlertDialog) ShadowAlertDialog.getLatestDialog()).getButton(AlertDialog.BUTTON_POSITIVE).performClick();
            Screen.awaitWorkers();
            assertTrue(ModelStore.isBundled(app.models.selected()));
            choose(controller.get(), Screen.content("net.qcnn", bundled()));
            assertEquals("file:net.qcnn", app.models.selected());
            assertNotSame("the deleted network", first, app.worker.submit(() -> app.engine.network()).get());
        }
    }

    @Test
    public void names() {
        assertEquals("net", ModelStore.cleanName("net.qcnn"));
        assertEquals("net", ModelStore.cleanName("../../net.qcnn"));
        assertEquals("a_b", ModelStore.cleanName("a b.qcnn"));
        assertEquals("model", ModelStore.cleanName("..."));
        assertEquals("model", ModelStore.cleanName(""));
        assertEquals("模型", ModelStore.cleanName("模型.qcnn"));
        assertFalse(ModelStore.cleanName(new String(new char[500]).replace('\0', 'x')).length() > 40);
    }
}
