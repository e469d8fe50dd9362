// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Activity;
import android.os.Bundle;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.TextView;

/** How fast the network runs on this phone, and where its time goes. */
public final class BenchmarkActivity extends Activity implements Benchmark.Listener {
    private static final int[] RUNS = { 5, 10, 20, 50, 100, 200, 500 };
    private LookupApp app;
    private int runs = 20, threads = Engine.threads();

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        app = LookupApp.of(this);
        setContentView(R.layout.activity_benchmark);
        Ui.bar(this, R.string.benchmark);
        if (saved != null) {
            runs = saved.getInt("runs");
            threads = saved.getInt("threads");
            if (!app.benchmark.running && app.benchmark.report == null)
                app.benchmark.report = Benchmark.Report.fromBundle(saved.getBundle("report"));
        }
        stepper(R.id.runs, R.string.runs, step -> runs = RUNS[clamp(position(runs) + step, 0, RUNS.length - 1)]);
        stepper(R.id.threads, R.string.threads,
                step -> threads = clamp(threads + step, 1, Math.max(1, Runtime.getRuntime().availableProcessors())));
        findViewById(R.id.start).setOnClickListener(v -> {
            if (app.benchmark.running)
                app.benchmark.stop();
            else
                app.benchmark.start(runs, threads);
        });
    }

    @Override
    protected void onSaveInstanceState(Bundle saved) {
        super.onSaveInstanceState(saved);
        saved.putInt("runs", runs);
        saved.putInt("threads", threads);
        if (app.benchmark.report != null)
            saved.putBundle("report", app.benchmark.report.toBundle());
    }

    @Override
    protected void onStart() {
        super.onStart();
        app.benchmark.listen(this);
        benchmarkChanged();
    }

    @Override
    protected void onStop() {
        app.benchmark.unlisten(this);
        if (!isChangingConfigurations())
            app.benchmark.stop(); // what is not looked at need not warm the phone
        super.onStop();
    }

    private interface Step {
        void by(int step);
    }

    private void stepper(int id, int name, Step step) {
        View row = findViewById(id);
        Ui.text(row, R.id.name, getString(name));
        View minus = row.findViewById(R.id.minus), plus = row.findViewById(R.id.plus);
        minus.setContentDescription(getString(R.string.fewer, getString(name)));
        plus.setContentDescription(getString(R.string.more, getString(name)));
        minus.setOnClickListener(v -> {
            step.by(-1);
            benchmarkChanged();
        });
        plus.setOnClickListener(v -> {
            step.by(1);
            benchmarkChanged();
        });
    }

    private static int position(int runs) {
        int i = 0;
        while (i < RUNS.length - 1 && RUNS[i] < runs)
            i++;
        return i;
    }

    private static int clamp(int value, int low, int high) {
        return Math.max(low, Math.min(high, value));
    }

    @Override
    public void benchmarkChanged() {
        Benchmark b = app.benchmark;
        Ui.text(findViewById(R.id.runs), R.id.value, String.valueOf(runs));
        Ui.text(findViewById(R.id.threads), R.id.value, String.valueOf(threads));
        for (int id : new int[] { R.id.runs, R.id.threads }) {
            findViewById(id).findViewById(R.id.minus).setEnabled(!b.running);
            findViewById(id).findViewById(R.id.plus).setEnabled(!b.running);
        }
        Button start = findViewById(R.id.start);
        start.setText(b.running ? R.string.stop : R.string.start);
        start.setCompoundDrawablesRelativeWithIntrinsicBounds(b.running ? R.drawable.ic_stop : R.drawable.ic_start, 0, 0, 0);
        TextView notice = findViewById(R.id.notice);
        notice.setText(b.running           ? getString(R.string.run_progress, b.done, b.total)
                       : b.message != null ? b.message
                                           : getString(R.string.benchmark_hint));
        Ui.show(findViewById(R.id.result), b.report != null);
        if (b.report != null)
            showReport(b.report);
    }

    private void showReport(Benchmark.Report report) {
        ViewGroup times = findViewById(R.id.times), layers = findViewById(R.id.layers);
        times.removeAllViews();
        Ui.addTime(times, R.string.median, Ui.milliseconds(this, report.medianMs));
        Ui.addTime(times, R.string.p90, Ui.milliseconds(this, report.p90Ms));
        Ui.addTime(times, R.string.fastest, Ui.milliseconds(this, report.minMs));
        Ui.text(findViewById(R.id.root), R.id.model_line,
                getString(R.string.kernels_line, report.model, report.kernels, Ui.bytes(this, report.memoryBytes)));
        layers.removeAllViews();
        float longest = 1e-6f;
        for (float ms : report.layerMs)
            longest = Math.max(longest, ms);
        for (int i = 0; i < report.layers.length; i++) {
            View row = getLayoutInflater().inflate(R.layout.class_row, layers, false);
            String method = report.methods[i].equals("lut")     ? " · " + getString(R.string.layer_lut)
                            : report.methods[i].equals("dense") ? " · " + getString(R.string.layer_dense)
                                                                : "";
            Ui.text(row, R.id.name, report.layers[i] + method);
            Ui.text(row, R.id.value, Ui.shortNumber(report.layerMs[i]));
            ((BarView) row.findViewById(R.id.bar)).show(report.layerMs[i] / longest, !report.methods[i].equals("lut"));
            layers.addView(row);
        }
    }
}
