// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.os.Bundle;
import android.util.Log;
import java.nio.FloatBuffer;
import java.util.Arrays;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

/** Times the selected model over and over. Like the classifier it outlives the screen that shows it. */
final class Benchmark {
    interface Listener {
        void benchmarkChanged();
    }

    /** Plain arrays, so that it can be kept in a Bundle. */
    static final class Report {
        double medianMs, p90Ms, minMs;
        int runs, threads;
        String model, kernels;
        long memoryBytes;
        String[] layers, methods; // those that take time, in order
        float[] layerMs;

        Bundle toBundle() {
            Bundle bundle = new Bundle();
            bundle.putDoubleArray("times", new double[] { medianMs, p90Ms, minMs });
            bundle.putIntArray("counts", new int[] { runs, threads });
            bundle.putStringArray("names", new String[] { model, kernels });
            bundle.putLong("memory", memoryBytes);
            bundle.putStringArray("layers", layers);
            bundle.putStringArray("methods", methods);
            bundle.putFloatArray("layer_ms", layerMs);
            return bundle;
        }

        static Report fromBundle(Bundle bundle) {
            if (bundle == null)
                return null;
            Report report = new Report();
            double[] times = bundle.getDoubleArray("times");
            report.medianMs = times[0];
            report.p90Ms = times[1];
            report.minMs = times[2];
            report.runs = bundle.getIntArray("counts")[0];
            report.threads = bundle.getIntArray("counts")[1];
            report.model = bundle.getStringArray("names")[0];
            report.kernels = bundle.getStringArray("names")[1];
            report.memoryBytes = bundle.getLong("memory");
            report.layers = bundle.getStringArray("layers");
            report.methods = bundle.getStringArray("methods");
            report.layerMs = bundle.getFloatArray("layer_ms");
            return report;
        }
    }

    private static final int WARM_UP = 3;
    private final LookupApp app;
    private Listener listener;
    private volatile boolean stopping;

    // of the main thread
    boolean running;
    int done, total;
    Report report;
    String message;

    Benchmark(LookupApp app) {
        this.app = app;
    }

    void listen(Listener newListener) {
        listener = newListener;
    }

    void unlisten(Listener old) {
        if (listener == old)
            listener = null;
    }

    void stop() {
        stopping = true;
    }

    void start(int runs, int threads) {
        if (running)
            return;
        running = true;
        stopping = false;
        done = 0;
        total = runs;
        report = null;
        message = null;
        changed();
        app.worker.execute(() -> {
            Report found = null;
            Failure failure = null;
            try {
                found = measure(runs, threads);
            } catch (Failure e) {
                failure = e;
            } catch (RuntimeException | OutOfMemoryError e) {
                Log.w("Lookup", "measuring", e);
                failure = app.engine.failure(e);
            }
            Report finished = found;
            Failure failed = failure;
            app.main.post(() -> {
                running = false;
                report = finished;
                int measured = finished == null ? 0 : finished.runs;
                message = failed != null ? failed.message(app) : measured < runs ? app.getString(R.string.stopped, measured) : null;
                changed();
            });
        });
    }

    private void changed() {
        if (listener != null)
            listener.benchmarkChanged();
    }

    private Report measure(int runs, int threads) throws Failure {
        Network network = app.engine.network();
        FloatBuffer input = app.engine.input(), output = app.engine.output();
        for (int i = 0; i < input.capacity(); i++)
            input.put(i, (i * 31 % 255) - 127);
        double[] times = new double[runs];
        float[] layers = new float[network.layers()];
        int measured = 0;
        long memory;
        try (Network.Session session = network.session(threads, true)) {
            memory = session.bytes();
            for (int i = 0; i < WARM_UP; i++)
                session.run(input, output);
            while (measured < runs && !stopping) {
                long start = System.nanoTime();
                session.run(input, output);
                times[measured++] = (System.nanoTime() - start) * 1e-6;
                float[] parts = session.layerMilliseconds();
                for (int i = 0; i < layers.length; i++)
                    layers[i] += parts[i];
                int progress = measured;
                app.main.post(() -> {
                    done = progress;
                    changed();
                });
            }
        } catch (QcnnException e) {
            throw new Failure(R.string.model_fails, app.engine.name(), e.getMessage());
        }
        if (measured == 0)
            return null;
        return describe(network, Arrays.copyOf(times, measured), layers, threads, memory);
    }

    private Report describe(Network network, double[] times, float[] layers, int threads, long memory) {
        Arrays.sort(times);
        Report found = new Report();
        found.runs = times.length;
        found.threads = threads;
        found.medianMs = times.length % 2 == 1 ? times[times.length / 2] : (times[times.length / 2 - 1] + times[times.length / 2]) / 2;
        found.p90Ms = times[(int) Math.ceil(0.9 * times.length) - 1];
        found.minMs = times[0];
        found.model = app.engine.name();
        found.kernels = network.kernels();
        found.memoryBytes = memory;
        int n = layers.length;
        found.layers = new String[n];
        found.methods = new String[n];
        found.layerMs = new float[n];
        for (int i = 0; i < n; i++) {
            Network.Layer layer = network.layer(i);
            found.layers[i] = layer.name == null || layer.name.isEmpty() ? layer.type : layer.name;
            found.methods[i] = layer.method;
            found.layerMs[i] = layers[i] / times.length;
        }
        return found;
    }
}
