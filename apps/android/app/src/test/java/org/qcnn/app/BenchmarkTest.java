// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import static org.junit.Assert.assertEquals;
import static org.junit.Assert.assertNotNull;
import static org.junit.Assert.assertTrue;

import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.TextView;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.Test;
import org.junit.runner.RunWith;
import org.robolectric.Robolectric;
import org.robolectric.RobolectricTestRunner;
import org.robolectric.android.controller.ActivityController;
import org.robolectric.annotation.Config;

/** The benchmark screen: steps, a measurement, stopping, turning the phone, the death of the process. */
@RunWith(RobolectricTestRunner.class)
@Config(sdk = { 26, 35 })
public class BenchmarkTest {
    private static String value(BenchmarkActivity activity, int stepper) {
        return ((TextView) activity.findViewById(stepper).findViewById(R.id.value)).getText().toString();
    }

    private static void press(BenchmarkActivity activity, int stepper, int button, int times) {
        for (int i = 0; i < times; i++)
            activity.findViewById(stepper).findViewById(button).performClick();
    }

    @Test
    public void measures() throws Exception {
        Bundle saved = new Bundle();
        try (ActivityController<BenchmarkActivity> controller = Robolectric.buildActivity(BenchmarkActivity.class).setup()) {
            BenchmarkActivity activity = controller.get();
            press(activity, R.id.runs, R.id.minus, 9);
            assertEquals("5", value(activity, R.id.runs));
            press(activity, R.id.threads, R.id.plus, 99);
            assertEquals(String.valueOf(Runtime.getRuntime().availableProcessors()), value(activity, R.id.threads));
            activity.findViewById(R.id.start).performClick();
            assertTrue(Screen.app().benchmark.running);
            controller.recreate().visible(); // turned while it runs
            Screen.await("the report", () -> Screen.app().benchmark.report != null);
            activity = controller.get();
            assertEquals("5", value(activity, R.id.runs));
            Benchmark.Report report = Screen.app().benchmark.report;
            assertEquals(5, report.runs);
            assertTrue(report.minMs > 0 && report.minMs <= report.medianMs && report.medianMs <= report.p90Ms);
            float sum = 0;
            for (float ms : report.layerMs)
                sum += ms;
            assertTrue("layers " + sum + " of " + report.medianMs, sum > 0 && sum < 2 * report.p90Ms);
            assertEquals(View.VISIBLE, activity.findViewById(R.id.result).getVisibility());
            assertEquals(report.layers.length, ((ViewGroup) activity.findViewById(R.id.layers)).getChildCount());
            controller.saveInstanceState(saved);
        }
        Screen.app().benchmark = new Benchmark(Screen.app());
        try (ActivityController<BenchmarkActivity> controller = Robolectric.buildActivity(BenchmarkActivity.class).setup(saved)) {
            assertNotNull(Screen.app().benchmark.report);
            assertEquals(View.VISIBLE, controller.get().findViewById(R.id.result).getVisibility());
            assertEquals("5", value(controller.get(), R.id.runs));
        }
    }

    @Test
    public void stops() throws Exception {
        try (ActivityController<BenchmarkActivity> controller = Robolectric.buildActivity(BenchmarkActivity.class).setup()) {
            BenchmarkActivity activity = controller.get();
            press(activity, R.id.runs, R.id.plus, 9);
            assertEquals("500", value(activity, R.id.runs));
            CountDownLatch held = new CountDownLatch(1); // so that the order of things does not depend on how fast they are
            Screen.app().worker.submit(() -> held.await(60, TimeUnit.SECONDS));
            activity.findViewById(R.id.start).performClick();
            assertTrue(Screen.app().benchmark.running);
            activity.findViewById(R.id.start).performClick();
            held.countDown();
            Screen.await("the end", () -> !Screen.app().benchmark.running);
            assertEquals(activity.getString(R.string.stopped, 0), ((TextView) activity.findViewById(R.id.notice)).getText().toString());
            assertEquals(View.GONE, activity.findViewById(R.id.result).getVisibility());
        }
    }
}
