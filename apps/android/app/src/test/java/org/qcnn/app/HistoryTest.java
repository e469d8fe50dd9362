// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertArrayEquals;
import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertNull;
import static org.junit.Assert.assertTrue;
import static org.robolectric.Shadows.shadowOf;

import android.app.AlertDialog;
import android.content.Intent;
import android.net.Uri;
import android.view.View;
import android.widget.GridView;
import java.io.File;
import java.io.FileNotFoundException;
import java.util.List;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;
import org.robolectric.shadows.ShadowAlertDialog;

/** Results that are kept: over restarts, damage and limits; opened, shared and deleted. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = { 26, 35 })
public class HistoryTest {
    private static Result look(int width) throws Exception {
        Screen.app().classifier.start(Screen.jpeg("photo" + width, width, 200));
        Screen.awaitAnswer();
        return Screen.app().classifier.result;
    }

    private static GridView list(HistoryActivity activity) throws Exception {
        Screen.awaitWorkers();
        return activity.findViewById(R.id.list);
    }

    @Test
    public void survivesRestart() throws Exception {
        Result first = look(300), second = look(310);
        History reopened = new History(RuntimeEnvironment.getApplication().getFilesDir());
        List<Result> kept = reopened.list();
        assertEquals(2, kept.size());
        assertEquals(second.id, kept.get(0).id);
        Result read = kept.get(1);
        assertEquals(first.toJson(), read.toJson());
        assertArrayEquals(first.labels, read.labels);
        assertNotNull(reopened.loadPhoto(first.id, 100));
    }

    @Test
    public void damage() throws Exception {
        Result good = look(300), bad = look(310), noPhoto = look(320);
        File folder = new File(RuntimeEnvironment.getApplication().getFilesDir(), "history");
        Files.write(new File(folder, bad.id + ".json"), out -> out.write("{\"id\": 1".getBytes()));
        assertTrue(new File(folder, noPhoto.id + ".jpg").delete());
        Files.write(new File(folder, "1.json"), out -> out.write("{\"id\": 1}".getBytes()));
        Files.write(new File(folder, "stray.txt"), out -> {});
        List<Result> kept = Screen.app().history.list();
        assertEquals(1, kept.size());
        assertEquals(good.id, kept.get(0).id);
        Screen.app().classifier.open(noPhoto.id);
        Screen.awaitAnswer();
        assertEquals(Screen.context().getString(R.string.result_gone), Screen.app().classifier.message);
    }

    @Test
    public void fullStorage() throws Exception {
        File folder = new File(RuntimeEnvironment.getApplication().getFilesDir(), "history");
        Files.write(folder, out -> {}); // a file where the folder would be: nothing can be written
        Result result = look(300);
        assertNotNull("shown all the same", result);
        assertEquals(Screen.context().getString(R.string.not_saved), Screen.app().classifier.message);
        assertTrue(folder.delete());
    }

    @Test
    public void limit() throws Exception {
        Result result = look(300);
        for (int i = 0; i < 210; i++)
            Screen.app().history.add(result, Screen.drawing(20, 20));
        assertEquals(200, Screen.app().history.list().size());
    }

    @Test
    public void openShareDelete() throws Exception {
        Result older = look(300);
        look(310);
        try (ActivityController<HistoryActivity> controller = Robolectric.buildActivity(HistoryActivity.class).setup()) {
            HistoryActivity activity = controller.get();
            GridView list = list(activity);
            assertEquals(2, list.getAdapter().getCount());
            View row = list.getAdapter().getView(1, null, list);
            row.findViewById(R.id.share).performClick();
            Intent send = shadowOf(activity).getNextStartedActivity().getParcelableExtra(Intent.EXTRA_INTENT);
            Uri photo = send.getParcelableExtra(Intent.EXTRA_STREAM);
            assertTrue(photo.toString().endsWith(older.id + ".jpg"));

            list.performItemClick(row, 1, older.id);
            Intent opened = shadowOf(activity).getNextStartedActivity();
            assertEquals(older.id, opened.getLongExtra(MainActivity.EXTRA_RESULT, 0));
            try (ActivityController<MainActivity> main = Robolectric.buildActivity(MainActivity.class, opened).setup()) {
                Screen.awaitAnswer();
                assertEquals(300, Screen.app().classifier.result.width);
            }

            row.findViewById(R.id.delete).performClick();
            ((AlertDialog) ShadowAlertDialog.getLatestDialog()).getButton(AlertDialog.BUTTON_POSITIVE).performClick();
            assertEquals(1, list(activity).getAdapter().getCount());
            assertNull(Screen.app().history.read(older.id));
            assertNull("what was deleted is not shown any more", Screen.app().classifier.result);
        }
    }

    @Test
    public void lendsNothingElse() throws Exception {
        Result result = look(300);
        String base = "content://org.qcnn.app.photos/";
        PhotoProvider provider = Robolectric.setupContentProvider(PhotoProvider.class, "org.qcnn.app.photos");
        provider.openFile(Uri.parse(base + "history/" + result.id + ".jpg"), "r").close();
        String[] refused = { "history/" + result.id + ".json", "history/..%2Fsecret.jpg", "models/1.jpg", "history", "", "camera/x.jpg" };
        for (String path : refused)
            assertRefused(provider, Uri.parse(base + path), "r");
        assertRefused(provider, Uri.parse(base + "history/" + result.id + ".jpg"), "rw");
    }

    private static void assertRefused(PhotoProvider provider, Uri uri, String mode) throws java.io.IOException {
        try {
            provider.openFile(uri, mode).close();
        } catch (FileNotFoundException e) {
            return;
        }
        throw new AssertionError(uri + " was lent for " + mode);
    }
}
