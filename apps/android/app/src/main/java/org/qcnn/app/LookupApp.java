// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Application;
import android.content.Context;
import android.os.Handler;
import android.os.Looper;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/** What outlives the screens: the models, the history, the work under way. Screens come and go when the phone is turned. */
public final class LookupApp extends Application {
    final Handler main = new Handler(Looper.getMainLooper());
    final ExecutorService worker = Executors.newSingleThreadExecutor(); // decoding, networks, files
    final ExecutorService pictures = Executors.newSingleThreadExecutor(); // small pictures for lists
    ModelStore models;
    History history;
    Engine engine;
    Classifier classifier;
    Benchmark benchmark;

    static LookupApp of(Context context) {
        return (LookupApp) context.getApplicationContext();
    }

    @Override
    public void onCreate() {
        super.onCreate();
        models = new ModelStore(this);
        history = new History(getFilesDir());
        engine = new Engine(models);
        classifier = new Classifier(this);
        benchmark = new Benchmark(this);
        worker.execute(() -> {
            models.sweep();
            history.sweep();
        });
    }
}
