// SPDX-License-Identifier: Apache-2.0
package org.qcnn.engine;

import java.io.Closeable;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;

/**
 * A network loaded from a .qcnn file: qcnn.h for Java.
 *
 * <pre>
 * try (Network network = Network.open(new File("alexnet.qcnn")); Network.Session session = network.session(2)) {
 *     FloatBuffer image = Network.tensor(network.inputShape(0)), scores = Network.tensor(network.outputShape(0));
 *     network.preprocess(rgba, width, height, 4, image);
 *     session.run(image, scores);
 * }
 * </pre>
 *
 * A network never changes: any number of threads may use one, each with a session of its own. (One session used by
 * several threads is safe too; they wait for each other.) Files, pixels and tensors are direct buffers and are not
 * copied. Closing a network that still has sessions takes effect when the last of them is closed; what is used after
 * its end throws IllegalStateException.
 */
public final class Network implements Closeable {
    static {
        System.loadLibrary("qcnn_java");
    }

    /** One step of the network, as it will run; see qcnn_layer_info. */
    public static final class Layer {
        public final String name, type, storage, method;
        public final int subspace, codewords;
        public final long weights, bytes;

        private Layer(String[] texts, long[] numbers) {
            name = texts[0];
            type = texts[1];
            storage = texts[2];
            method = texts[3];
            subspace = (int) numbers[0];
            codewords = (int) numbers[1];
            weights = numbers[2];
            bytes = numbers[3];
        }
    }

    private enum Text { PREPROCESSING, KERNELS, CLASS, INPUT_NAME, OUTPUT_NAME, LAYER_NAME, LAYER_TYPE, LAYER_STORAGE, LAYER_METHOD }

    private final ByteBuffer file; // the model refers to these bytes
    private long model;            // qcnn_model *; 0: freed
    private boolean closed;
    private int openSessions;

    private Network(ByteBuffer file) throws QcnnException {
        this.file = file;
        model = nativeLoad(file, file.capacity());
    }

    /** Maps the file read-only; it must not change while the network is open. */
    public static Network open(File file) throws IOException, QcnnException {
        try (FileInputStream stream = new FileInputStream(file)) {
            return open(stream.getChannel(), 0, file.length());
        }
    }

    /** A network that lies inside a larger file, such as an Android package. */
    public static Network open(FileChannel channel, long offset, long bytes) throws IOException, QcnnException {
        return load(channel.map(FileChannel.MapMode.READ_ONLY, offset, bytes));
    }

    /** The whole of a direct buffer, from index 0 to its capacity. It is referred to, not copied, and must not change. */
    public static Network load(ByteBuffer file) throws QcnnException {
        if (!file.isDirect())
            throw new IllegalArgumentException("the buffer is not direct");
        return new Network(file);
    }

    /** A direct buffer of native byte order for a tensor of this shape. */
    public static FloatBuffer tensor(int... shape) {
        long elements = 1;
        for (int side : shape)
            elements *= side;
        if (elements < 0 || elements > Integer.MAX_VALUE / 4)
            throw new IllegalArgumentException("too large for a buffer: " + elements + " numbers");
        return ByteBuffer.allocateDirect((int) elements * 4).order(ByteOrder.nativeOrder()).asFloatBuffer();
    }

    public long fileBytes() {
        return file.capacity();
    }

    /** float32 bytes of all weights and biases before compression. */
    public synchronized long originalBytes() {
        return nativeOriginalBytes(model());
    }

    /** The instruction-set tier in use. */
    public String kernels() {
        return text(Text.KERNELS, 0);
    }

    /** preprocess.json as stored in the file, or null. */
    public String preprocessing() {
        return text(Text.PREPROCESSING, 0);
    }

    public synchronized int classes() {
        return nativeCounts(model())[0];
    }

    /** The name of a class; null out of range. */
    public String className(int index) {
        return text(Text.CLASS, index);
    }

    public synchronized int inputs() {
        return nativeCounts(model())[1];
    }

    public synchronized int outputs() {
        return nativeCounts(model())[2];
    }

    public String inputName(int index) {
        return text(Text.INPUT_NAME, index);
    }

    public String outputName(int index) {
        return text(Text.OUTPUT_NAME, index);
    }

    /** N, C, H, W of an input at batch 1. */
    public synchronized int[] inputShape(int index) {
        return nativeShape(model(), false, index);
    }

    public synchronized int[] outputShape(int index) {
        return nativeShape(model(), true, index);
    }

    public synchronized int layers() {
        return nativeCounts(model())[3];
    }

    public synchronized Layer layer(int index) {
        String[] texts = { text(Text.LAYER_NAME, index), text(Text.LAYER_TYPE, index), text(Text.LAYER_STORAGE, index),
                           text(Text.LAYER_METHOD, index) };
        return new Layer(texts, nativeLayerNumbers(model(), index));
    }

    /**
     * Pixels to a tensor, as the network's own preprocess.json says. `pixels` is direct and holds, from index 0, rows without gaps of
     * `channels` bytes a pixel: 1 (grey), 3 (RGB) or 4 (RGBA, A ignored). ARGUMENT: the image is smaller than the crop.
     */
    public void preprocess(ByteBuffer pixels, int width, int height, int channels, FloatBuffer tensor) throws QcnnException {
        String json = preprocessing();
        if (json == null)
            throw new IllegalStateException("the network has no preprocessing stored");
        check(tensor, "the tensor");
        if (tensor.isReadOnly())
            throw new IllegalArgumentException("the tensor is read-only");
        if (!pixels.isDirect() || width < 1 || height < 1 || channels < 1 || channels > 4 ||
            (long) width * height > pixels.capacity() / channels) // three factors would overflow
            throw new IllegalArgumentException("the pixels are not a direct buffer of " + width + " x " + height + " x " + channels);
        nativePreprocess(json.getBytes(StandardCharsets.UTF_8), pixels, width, height, channels, tensor, tensor.capacity());
    }

    /** Scores to probabilities: a softmax, unless they are probabilities already. */
    public static float[] probabilities(FloatBuffer scores) {
        float[] p = new float[scores.capacity()];
        double sum = 0, largest = Double.NEGATIVE_INFINITY;
        boolean inRange = true;
        for (int i = 0; i < p.length; i++) {
            p[i] = scores.get(i);
            sum += p[i];
            inRange &= p[i] >= 0 && p[i] <= 1.0001f;
            largest = Math.max(largest, p[i]);
        }
        if (inRange && Math.abs(sum - 1) < 1e-3)
            return p;
        sum = 0;
        for (float score : p)
            sum += Math.exp(score - largest);
        for (int i = 0; i < p.length; i++)
            p[i] = (float) (Math.exp(p[i] - largest) / sum);
        return p;
    }

    /** Plans the memory of a run and starts `threads` - 1 helpers (1 or more threads). Measures layers if `timed`. */
    public synchronized Session session(int threads, boolean timed) throws QcnnException {
        Session session = new Session(nativeSession(model(), threads, timed));
        openSessions++;
        return session;
    }

    public Session session(int threads) throws QcnnException {
        return session(threads, false);
    }

    @Override
    public synchronized void close() {
        closed = true;
        freeIfUnused();
    }

    private synchronized void sessionClosed() {
        openSessions--;
        if (closed)
            freeIfUnused();
    }

    private void freeIfUnused() {
        if (openSessions == 0 && model != 0) {
            nativeFree(model);
            model = 0;
        }
    }

    private long model() {
        if (closed)
            throw new IllegalStateException("the network is closed");
        return model;
    }

    private synchronized String text(Text kind, int index) {
        byte[] utf8 = nativeText(model(), kind.ordinal(), index);
        return utf8 == null ? null : new String(utf8, StandardCharsets.UTF_8);
    }

    private static void check(FloatBuffer tensor, String what) {
        if (!tensor.isDirect() || tensor.order() != ByteOrder.nativeOrder())
            throw new IllegalArgumentException(what + " must be a direct buffer of native byte order");
    }

    /** The memory, and the threads, of one run at a time. */
    public final class Session implements Closeable {
        private long session; // 0: freed

        private Session(long session) {
            this.session = session;
        }

        /** Runs the network; whole buffers, of which index 0 is the first number. Inputs and outputs must not overlap. */
        public synchronized void run(FloatBuffer[] inputs, FloatBuffer[] outputs) {
            int[] inputSizes = new int[inputs.length], outputSizes = new int[outputs.length];
            for (int i = 0; i < inputs.length; i++) {
                check(inputs[i], "an input");
                inputSizes[i] = inputs[i].capacity();
            }
            for (int i = 0; i < outputs.length; i++) {
                check(outputs[i], "an output");
                if (outputs[i].isReadOnly())
                    throw new IllegalArgumentException("an output is read-only");
                outputSizes[i] = outputs[i].capacity();
            }
            nativeRun(session(), inputs, inputSizes, outputs, outputSizes);
        }

        public void run(FloatBuffer input, FloatBuffer output) {
            run(new FloatBuffer[] { input }, new FloatBuffer[] { output });
        }

        /** Milliseconds of each layer in the last run; zeros unless the session is timed. */
        public synchronized float[] layerMilliseconds() {
            return nativeLayerMilliseconds(session());
        }

        /** Bytes planned for activations and scratch. */
        public synchronized long bytes() {
            return nativeSessionBytes(session());
        }

        @Override
        public synchronized void close() {
            if (session != 0) {
                nativeSessionFree(session);
                session = 0;
                sessionClosed();
            }
        }

        private long session() {
            if (session == 0)
                throw new IllegalStateException("the session is closed");
            return session;
        }
    }

    private static native long nativeLoad(ByteBuffer file, long bytes) throws QcnnException;
    private static native void nativeFree(long model);
    private static native long nativeOriginalBytes(long model);
    private static native int[] nativeCounts(long model); // classes, inputs, outputs, layers
    private static native byte[] nativeText(long model, int kind, int index);
    private static native int[] nativeShape(long model, boolean output, int index);
    private static native long[] nativeLayerNumbers(long model, int index);
    private static native void nativePreprocess(byte[] json, ByteBuffer pixels, int width, int height, int channels, FloatBuffer tensor,
                                                int elements) throws QcnnException;
    private static native long nativeSession(long model, int threads, boolean timed) throws QcnnException;
    private static native void nativeSessionFree(long session);
    private static native void nativeRun(long session, FloatBuffer[] inputs, int[] inputSizes, FloatBuffer[] outputs, int[] outputSizes);
    private static native float[] nativeLayerMilliseconds(long session);
    private static native long nativeSessionBytes(long session);
}
