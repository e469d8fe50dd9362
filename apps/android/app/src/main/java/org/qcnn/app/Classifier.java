// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.graphics.Color;
import android.net.Uri;
import android.util.Log;
import java.io.IOException;
import java.nio.ByteBuffer;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

/**
 * The one photo that is looked at, or was: its state lives here while screens are made anew. All fields belong to the main
 * thread; the newest request wins, what an older one finds is kept in the history but not shown.
 */
final class Classifier {
    enum Stage { IDLE, WORKING, DONE, FAILED }

    interface Listener {
        void classifierChanged();
    }

    private static final int TOP = 5, SIDE = 512;
    private final LookupApp app;
    private Listener listener;
    private int request; // counts up: answers to older ones are dropped
    PhotoDecoder.Source source = (in, options) -> BitmapFactory.decodeStream(in, null, options);

    Stage stage = Stage.IDLE;
    Uri pending;    // WORKING on a photo from outside
    long opening;   // WORKING on a result of the history; else 0
    Result result;  // DONE
    Bitmap photo;   // DONE
    String message; // FAILED, or beside a result that could not be saved; else null

    Classifier(LookupApp app) {
        this.app = app;
    }

    void listen(Listener newListener) {
        listener = newListener;
    }

    void unlisten(Listener old) {
        if (listener == old)
            listener = null;
    }

    private interface Work {
        Answer run() throws Failure;
    }

    private static final class Answer {
        final Result result;
        final Bitmap photo;
        final Failure remark; // null: none

        Answer(Result result, Bitmap photo, Failure remark) {
            this.result = result;
            this.photo = photo;
            this.remark = remark;
        }
    }

    /** Looks at a photo. */
    void start(Uri uri) {
        begin(uri, 0, () -> classify(uri));
    }

    /** Shows a result of the history again. */
    void open(long id) {
        begin(null, id, () -> {
            Result kept = app.history.read(id);
            Bitmap picture = kept == null ? null : app.history.loadPhoto(id, SIDE);
            if (picture == null)
                throw new Failure(R.string.result_gone);
            return new Answer(kept, picture, null);
        });
    }

    /** Nothing is shown any more. */
    void clear() {
        request++;
        set(Stage.IDLE, null, null, null);
    }

    private void begin(Uri uri, long id, Work work) {
        int mine = ++request;
        set(Stage.WORKING, null, null, null);
        pending = uri;
        opening = id;
        notifyListener();
        app.worker.execute(() -> {
            Answer answer = null;
            Failure failure = null;
            try {
                answer = work.run();
            } catch (Failure e) {
                failure = e;
            } catch (OutOfMemoryError e) {
                failure = new Failure(R.string.too_large);
            } catch (RuntimeException e) {
                Log.w("Lookup", "looking at a photo", e);
                failure = new Failure(R.string.cannot_open);
            }
            Answer done = answer;
            Failure failed = failure;
            app.main.post(() -> finish(mine, done, failed));
        });
    }

    private void finish(int answered, Answer answer, Failure failure) {
        if (answered != request)
            return;
        if (failure != null)
            set(Stage.FAILED, null, null, failure.message(app));
        else
            set(Stage.DONE, answer.result, answer.photo, answer.remark == null ? null : answer.remark.message(app));
        notifyListener();
    }

    private void set(Stage newStage, Result newResult, Bitmap newPhoto, String newMessage) {
        stage = newStage;
        result = newResult;
        photo = newPhoto;
        message = newMessage;
        pending = null;
        opening = 0;
    }

    private void notifyListener() {
        if (listener != null)
            listener.classifierChanged();
    }

    // ---- on the worker thread ------------------------------------------------------------------------------------------

    private static double now() {
        return System.nanoTime() * 1e-6;
    }

    private Answer classify(Uri uri) throws Failure {
        Network network = app.engine.network();
        int[] shape = network.inputShape(0);
        Result found = new Result();

        double start = now();
        PhotoDecoder decoder = new PhotoDecoder(app.getContentResolver(), source);
        PhotoDecoder.Photo decoded = decoder.decode(uri, Math.max(SIDE, 2 * Math.max(shape[2], shape[3])));
        found.decodeMs = now() - start;

        start = now();
        Bitmap bitmap = decoded.bitmap;
        try {
            preprocess(network, bitmap);
            found.preprocessMs = now() - start;

            start = now();
            app.engine.session().run(app.engine.input(), app.engine.output());
            found.networkMs = now() - start;

            found.width = decoded.width;
            found.height = decoded.height;
            ModelStore.checkFinite(app.engine.output());
            describe(found, network);
        } catch (QcnnException | Failure | RuntimeException e) {
            throw app.engine.failure(e);
        }
        Failure remark = null;
        try {
            app.history.add(found, bitmap);
        } catch (IOException e) {
            Log.w("Lookup", "a result was not saved", e);
            found.id = 0;
            remark = new Failure(R.string.not_saved);
        }
        return new Answer(found, bitmap, remark);
    }

    private void preprocess(Network network, Bitmap bitmap) throws QcnnException {
        network.preprocess(pixels(bitmap), bitmap.getWidth(), bitmap.getHeight(), 4, app.engine.input());
    }

    /** Rows of R, G, B, A: what an ARGB_8888 bitmap is in Android's memory. Bitmaps of a host JVM (tests) are B, G, R, A. */
    static ByteBuffer pixels(Bitmap bitmap) {
        ByteBuffer pixels = ByteBuffer.allocateDirect(bitmap.getByteCount());
        bitmap.copyPixelsToBuffer(pixels);
        boolean swapped = !redFirst();
        for (int i = 0; swapped && i < pixels.capacity(); i += 4) {
            byte blue = pixels.get(i);
            pixels.put(i, pixels.get(i + 2));
            pixels.put(i + 2, blue);
        }
        return pixels;
    }

    private static boolean redFirst() {
        Bitmap red = Bitmap.createBitmap(new int[] { Color.RED }, 1, 1, Bitmap.Config.ARGB_8888);
        ByteBuffer pixel = ByteBuffer.allocateDirect(red.getByteCount());
        red.copyPixelsToBuffer(pixel);
        return pixel.get(0) != 0;
    }

    private void describe(Result found, Network network) {
        float[] p = Network.probabilities(app.engine.output());
        int n = Math.min(TOP, p.length);
        found.labels = new String[n];
        found.probabilities = new float[n];
        for (int rank = 0; rank < n; rank++) {
            int best = 0;
            for (int i = 1; i < p.length; i++)
                if (p[i] > p[best])
                    best = i;
            String label = network.className(best);
            found.labels[rank] = label == null ? "#" + best : label;
            found.probabilities[rank] = p[best];
            p[best] = -1;
        }
        found.model = app.engine.name();
        found.modelBytes = network.fileBytes();
        found.ratio = (double) network.originalBytes() / network.fileBytes();
        found.classes = p.length;
    }
}
