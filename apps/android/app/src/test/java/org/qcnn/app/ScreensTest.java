// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertTrue;
import static org.junit.Assert.fail;

import android.app.Activity;
import android.graphics.Rect;
import android.text.Layout;
import android.view.View;
import android.view.ViewGroup;
import android.view.WindowInsets;
import android.widget.Button;
import android.widget.ImageButton;
import android.widget.ScrollView;
import android.widget.TextView;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.RuntimeEnvironment;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;

/**
 * Every screen on several kinds of phones: no text cut off, nothing to touch smaller than a finger or under the system bars.
 * Draws what it checks to build/android/screens when told to.
 */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = 35)
public class ScreensTest {
    private static void all(String name) throws Exception {
        Screen.systemBars("STANDARD_STATUS_BAR", "GESTURAL_NAVIGATION");
        screen(MainActivity.class, name + "-start", activity -> {});
        look();
        screen(MainActivity.class, name + "-result", activity -> {});
        for (int i = 0; i < 3; i++)
            Screen.app().classifier.start(Screen.jpeg("p" + i, 300 + 60 * i, 260));
        Screen.awaitAnswer();
        screen(HistoryActivity.class, name + "-history", activity -> {});
        screen(ModelsActivity.class, name + "-models", activity -> {});
        screen(BenchmarkActivity.class, name + "-benchmark", activity -> {
            Screen.app().benchmark.start(5, 1);
            Screen.await("the benchmark", () -> !Screen.app().benchmark.running);
        });
        Screen.app().classifier.start(Screen.content("broken", new byte[] { 1, 2, 3 }));
        Screen.awaitAnswer();
        screen(MainActivity.class, name + "-broken", activity -> {});
    }

    private static void look() throws Exception {
        Screen.app().classifier.start(Screen.sample().exists() ? Screen.content(Screen.sample()) : Screen.jpeg("drawing", 640, 480));
        Screen.awaitAnswer();
    }

    interface Act {
        void on(Activity activity) throws Exception;
    }

    private static void screen(Class<? extends Activity> kind, String name, Act act) throws Exception {
        try (ActivityController<? extends Activity> controller = Robolectric.buildActivity(kind).setup()) {
            Activity activity = controller.get();
            act.on(activity);
            Screen.awaitWorkers();
            check(activity, name);
            if (System.getProperty("qcnn.screens") != null)
                Screen.draw(activity, name);
        }
    }

    // ---- checks --------------------------------------------------------------------------------------------------------

    private static void check(Activity activity, String name) {
        View root = activity.findViewById(R.id.root);
        assertTrue(name + ": laid out", root.getWidth() > 0 && root.getHeight() > 0);
        View decor = activity.getWindow().getDecorView();
        WindowInsets insets = decor.getRootWindowInsets();
        assertTrue(name + ": there are system bars", insets.getSystemWindowInsetTop() > 0);
        Rect safe = new Rect(insets.getSystemWindowInsetLeft(), insets.getSystemWindowInsetTop(),
                             decor.getWidth() - insets.getSystemWindowInsetRight(), decor.getHeight() - insets.getSystemWindowInsetBottom());
        walk(root, safe, false, name);
    }

    private static void walk(View view, Rect safe, boolean scrolls, String name) {
        if (view.getVisibility() != View.VISIBLE)
            return;
        String what = name + ": " + view.getClass().getSimpleName() + " "
                      + (view.getId() == View.NO_ID ? "" : view.getResources().getResourceEntryName(view.getId()));
        Rect place = new Rect();
        if (view.getId() != R.id.root) {
            view.getDrawingRect(place);
            ((ViewGroup) view.getRootView()).offsetDescendantRectToMyCoords(view, place);
            // what scrolls may go on below the fold
            assertTrue(what + " under the system bars or outside: " + place + " in " + safe,
                       place.left >= safe.left && place.right <= safe.right && (scrolls || (place.top >= safe.top && place.bottom <= safe.bottom)));
        }
        if (view instanceof TextView)
            text((TextView) view, what);
        if (view instanceof Button || view instanceof ImageButton) {
            float density = view.getResources().getDisplayMetrics().density;
            assertTrue(what + " is too small to touch", view.getWidth() >= 47.5f * density && view.getHeight() >= 47.5f * density);
        }
        if (view instanceof ImageButton)
            assertTrue(what + " says nothing to a screen reader", view.getContentDescription() != null);
        if (view instanceof ViewGroup)
            for (int i = 0; i < ((ViewGroup) view).getChildCount(); i++)
                walk(((ViewGroup) view).getChildAt(i), safe, scrolls || view instanceof ScrollView || view.getId() == R.id.list, name);
    }

    private static void text(TextView view, String what) {
        Layout layout = view.getLayout();
        if (layout == null || view.length() == 0)
            return;
        what += " \"" + view.getText() + "\"";
        int height = view.getHeight() - view.getCompoundPaddingTop() - view.getCompoundPaddingBottom();
        int width = view.getWidth() - view.getCompoundPaddingLeft() - view.getCompoundPaddingRight();
        assertTrue(what + " is cut off below: " + layout.getHeight() + " in " + height, layout.getHeight() <= height + 1);
        for (int line = 0; line < layout.getLineCount(); line++) {
            assertEquals(what + " is shortened", 0, layout.getEllipsisCount(line));
            assertTrue(what + " is cut off at the side", layout.getLineMax(line) <= width + 1);
            int end = layout.getLineEnd(line);
            if (line < layout.getLineCount() - 1 && Character.isLetter(view.getText().charAt(end - 1)) && Character.isLetter(view.getText().charAt(end))
                && view.getText().charAt(end) < 0x2e80)
                fail(what + " breaks inside a word");
        }
    }

    // ---- phones --------------------------------------------------------------------------------------------------------

    @Test
    @Config(qualifiers = "en-w411dp-h891dp-port-notnight-420dpi")
    public void phone() throws Exception {
        all("phone");
    }

    @Test
    @Config(qualifiers = "en-w411dp-h891dp-port-night-420dpi")
    public void dark() throws Exception {
        all("dark");
    }

    @Test
    @Config(qualifiers = "zh-rCN-w411dp-h891dp-port-notnight-420dpi")
    public void chinese() throws Exception {
        all("chinese");
    }

    @Test
    @Config(qualifiers = "en-w891dp-h411dp-land-notnight-420dpi")
    public void landscape() throws Exception {
        all("landscape");
    }

    @Test
    @Config(qualifiers = "en-w320dp-h533dp-port-notnight-hdpi")
    public void small() throws Exception {
        all("small");
    }

    @Test
    @Config(qualifiers = "en-w411dp-h891dp-port-notnight-420dpi")
    public void largeFonts() throws Exception {
        RuntimeEnvironment.setFontScale(1.6f);
        all("large-fonts");
    }

    @Test
    @Config(qualifiers = "zh-rCN-w360dp-h640dp-port-night-xhdpi")
    public void chineseLargeFontsDark() throws Exception {
        RuntimeEnvironment.setFontScale(1.3f);
        all("chinese-dark");
    }

    @Test
    @Config(qualifiers = "en-sw800dp-w800dp-h1280dp-port-notnight-hdpi")
    public void tablet() throws Exception {
        all("tablet");
    }

    @Test
    @Config(qualifiers = "en-sw800dp-w1280dp-h800dp-land-night-hdpi")
    public void tabletLandscape() throws Exception {
        all("tablet-landscape");
    }

    @Test
    @Config(sdk = 26, qualifiers = "en-w360dp-h640dp-port-notnight-xhdpi")
    public void oldest() throws Exception {
        all("oldest");
    }
}
