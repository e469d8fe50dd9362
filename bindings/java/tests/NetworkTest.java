// SPDX-License-Identifier: Apache-2.0
// org.qcnn.engine.Network on the host JVM, against two small .qcnn files: what it says of a network, every refusal, memory over
// 10,000 calls, several threads. Plain Java, so that it needs no package.
//   java -Djava.library.path=build NetworkTest FASHION_MNIST.qcnn TINY.qcnn
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

public final class NetworkTest {
    private static byte[] bytes;
    private static File file;
    private static int checks;

    interface Action {
        void run() throws Exception;
    }

    static void check(boolean holds, String what) {
        checks++;
        if (!holds)
            throw new AssertionError(what);
    }

    static void refuses(Class<? extends Exception> kind, String what, Action action) throws Exception {
        try {
            action.run();
        } catch (Exception e) {
            check(kind.isInstance(e), what + ": " + e);
            check(e.getMessage() != null && !e.getMessage().isEmpty(), what + ": no message");
            return;
        }
        throw new AssertionError(what + ": not refused");
    }

    static ByteBuffer direct(byte[] content, int length) {
        ByteBuffer buffer = ByteBuffer.allocateDirect(length);
        buffer.put(content, 0, length);
        return buffer;
    }

    static FloatBuffer[] inputs(Network network, long seed) {
        Random random = new Random(seed);
        FloatBuffer[] inputs = new FloatBuffer[network.inputs()];
        for (int i = 0; i < inputs.length; i++) {
            inputs[i] = Network.tensor(network.inputShape(i));
            for (int k = 0; k < inputs[i].capacity(); k++)
                inputs[i].put(k, random.nextFloat() - 0.5f);
        }
        return inputs;
    }

    static FloatBuffer[] outputs(Network network) {
        FloatBuffer[] outputs = new FloatBuffer[network.outputs()];
        for (int i = 0; i < outputs.length; i++)
            outputs[i] = Network.tensor(network.outputShape(i));
        return outputs;
    }

    static int hash(FloatBuffer[] buffers) {
        int hash = 1;
        for (FloatBuffer buffer : buffers)
            for (int i = 0; i < buffer.capacity(); i++)
                hash = 31 * hash + Float.floatToRawIntBits(buffer.get(i));
        return hash;
    }

    static void whatItSays() throws Exception {
        try (Network network = Network.open(file); Network.Session session = network.session(1, true)) {
            check(network.fileBytes() == bytes.length, "file size");
            check(network.originalBytes() > network.fileBytes(), "it is compressed");
            check(network.inputs() == 1 && network.outputs() == 1, "ports");
            check(Arrays.equals(network.inputShape(0), new int[] { 1, 1, 28, 28 }), "input shape");
            check(Arrays.equals(network.outputShape(0), new int[] { 1, 10 }), "output shape");
            check(network.inputShape(1).length == 0 && network.inputName(-1) == null, "ports out of range");
            check(network.classes() == 10 && network.className(0).equals("T-shirt/top"), "classes: " + network.className(0));
            check(network.className(10) == null && network.className(-1) == null, "classes out of range");
            check(network.preprocessing().contains("\"GRAY\""), "preprocessing");
            check(!network.kernels().isEmpty(), "kernels");
            long weightBytes = 0;
            boolean codebook = false;
            for (int i = 0; i < network.layers(); i++) {
                Network.Layer layer = network.layer(i);
                weightBytes += layer.bytes;
                codebook |= layer.storage.equals("codebook") && layer.codewords > 0 && layer.subspace > 0;
            }
            check(codebook && weightBytes > 0 && weightBytes <= bytes.length, "layers");
            check(session.bytes() > 0, "session bytes");
            session.run(inputs(network, 1), outputs(network));
            float[] times = session.layerMilliseconds();
            check(times.length == network.layers(), "a time for each layer");
            float sum = 0;
            for (float time : times)
                sum += time;
            check(sum > 0, "layers take time");
        }
    }

    static void loadFromMemory() throws Exception {
        FloatBuffer[] fromFile, fromMemory;
        try (Network network = Network.open(file); Network.Session session = network.session(2)) {
            session.run(inputs(network, 2), fromFile = outputs(network));
        }
        try (Network network = Network.load(direct(bytes, bytes.length)); Network.Session session = network.session(1)) {
            session.run(inputs(network, 2), fromMemory = outputs(network));
        }
        check(hash(fromFile) == hash(fromMemory), "mapped with two threads and in memory with one give the same bits");
    }

    static void brokenFiles() throws Exception {
        for (int length = 0; length < bytes.length; length += length < 4096 ? 1 : 4093) {
            final int cut = length;
            refuses(QcnnException.class, "cut at " + cut, () -> Network.load(direct(bytes, cut)));
        }
        byte[] flipped = bytes.clone();
        flipped[bytes.length / 2] ^= 1;
        try {
            Network.load(direct(flipped, flipped.length));
            throw new AssertionError("a flipped bit passed");
        } catch (QcnnException e) {
            check(e.status() == QcnnException.Status.FORMAT, "status of a flipped bit: " + e.status());
        }
        refuses(IOException.class, "a file that is not there", () -> Network.open(new File(file + ".missing")));
        refuses(IllegalArgumentException.class, "a heap buffer", () -> Network.load(ByteBuffer.wrap(bytes)));
        refuses(NullPointerException.class, "no buffer", () -> Network.load(null));
    }

    static void badCalls() throws Exception {
        Network network = Network.open(file);
        Network.Session session = network.session(1);
        FloatBuffer[] in = inputs(network, 3), out = outputs(network);
        FloatBuffer small = Network.tensor(7), heap = FloatBuffer.allocate(784);
        FloatBuffer swapped = ByteBuffer.allocateDirect(784 * 4).order(ByteOrder.nativeOrder() == ByteOrder.LITTLE_ENDIAN ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN).asFloatBuffer();
        Class<? extends Exception> argument = IllegalArgumentException.class, state = IllegalStateException.class;
        refuses(argument, "a small input", () -> session.run(small, out[0]));
        refuses(argument, "a small output", () -> session.run(in[0], small));
        refuses(argument, "a heap input", () -> session.run(heap, out[0]));
        refuses(argument, "the other byte order", () -> session.run(swapped, out[0]));
        refuses(argument, "a read-only output", () -> session.run(in[0], out[0].asReadOnlyBuffer()));
        refuses(argument, "no inputs", () -> session.run(new FloatBuffer[0], out));
        refuses(argument, "too many outputs", () -> session.run(in, new FloatBuffer[] { out[0], out[0] }));
        refuses(argument, "a tensor beyond all bounds", () -> Network.tensor(1 << 20, 1 << 20));
        refuses(QcnnException.class, "no threads", () -> network.session(0));
        refuses(QcnnException.class, "too many threads", () -> network.session(100000));
        ByteBuffer pixels = ByteBuffer.allocateDirect(28 * 28 * 4);
        refuses(argument, "pixels on the heap", () -> network.preprocess(ByteBuffer.allocate(784), 28, 28, 1, in[0]));
        refuses(argument, "too few pixels", () -> network.preprocess(pixels, 1000, 1000, 4, in[0]));
        refuses(argument, "sizes beyond all bounds", () -> network.preprocess(pixels, 1 << 30, 1 << 30, 4, in[0]));
        refuses(argument, "sizes whose product is negative in 64 bits", () -> network.preprocess(pixels, Integer.MAX_VALUE, Integer.MAX_VALUE, 4, in[0]));
        refuses(argument, "sizes whose product is 0 in 64 bits", () -> network.preprocess(pixels, 1 << 30, 1 << 30, 16, in[0]));
        refuses(argument, "a pixel too few", () -> network.preprocess(pixels, 28 * 28 + 1, 1, 4, in[0]));
        refuses(argument, "five channels", () -> network.preprocess(pixels, 1, 1, 5, in[0]));
        refuses(argument, "a read-only tensor", () -> network.preprocess(pixels, 28, 28, 4, in[0].asReadOnlyBuffer()));
        refuses(argument, "no width", () -> network.preprocess(pixels, 0, 28, 1, in[0]));
        refuses(QcnnException.class, "two channels", () -> network.preprocess(pixels, 28, 28, 2, in[0]));
        refuses(QcnnException.class, "a small tensor", () -> network.preprocess(pixels, 28, 28, 1, small));
        network.preprocess(pixels, 28, 28, 4, in[0]);
        network.close(); // takes effect when the session is closed
        session.run(in, out);
        refuses(state, "a session of a closed network", () -> network.session(1));
        session.close();
        session.close();
        network.close();
        refuses(state, "a closed session", () -> session.run(in, out));
        refuses(state, "a closed session's times", session::layerMilliseconds);
        refuses(state, "a closed network", network::classes);
        refuses(state, "a closed network's text", network::preprocessing);
    }

    static void softmax() {
        FloatBuffer scores = Network.tensor(3);
        scores.put(new float[] { 1000, 1000, -1000 });
        float[] p = Network.probabilities(scores);
        check(p[0] == 0.5f && p[1] == 0.5f && p[2] == 0, "softmax of large scores");
        scores.clear();
        scores.put(new float[] { 0.25f, 0.5f, 0.25f });
        check(Network.probabilities(scores)[1] == 0.5f, "probabilities stay");
    }

    static long residentBytes() throws IOException {
        System.gc();
        return Long.parseLong(Files.readString(Path.of("/proc/self/statm")).split(" ")[1]) * 4096;
    }

    static void callMany(int n, ByteBuffer image, ByteBuffer broken, Network large, ByteBuffer pixels, FloatBuffer tensor) throws Exception {
        FloatBuffer[] in = null, out = null;
        for (int i = 0; i < n; i++) {
            try (Network network = Network.load(image); Network.Session session = network.session(1 + i % 2)) {
                if (in == null) {
                    in = inputs(network, 4);
                    out = outputs(network);
                }
                session.run(in, out);
                network.layer(i % network.layers());
            }
            large.preprocess(pixels, 40, 40, 4, tensor);
            large.className(i % 10);
            try {
                Network.load(broken);
            } catch (QcnnException e) {
                checks++;
            }
        }
    }

    // Everything that allocates in C, 10,000 times; the JVM's own warming up is over after the first 3,000.
    static void noLeak(File smallest) throws Exception {
        byte[] content = Files.readAllBytes(smallest.toPath());
        ByteBuffer image = direct(content, content.length), broken = direct(content, content.length - 1), pixels = ByteBuffer.allocateDirect(6400);
        try (Network large = Network.open(file)) {
            FloatBuffer tensor = Network.tensor(large.inputShape(0));
            callMany(3000, image, broken, large, pixels, tensor);
            long before = residentBytes();
            callMany(10000, image, broken, large, pixels, tensor);
            long grown = residentBytes() - before;
            System.out.println("10,000 times load, run, preprocess, free and refuse: resident memory grew by " + grown / 1024 + " KiB");
            check(grown < 8 << 20, "10,000 calls grew by " + grown + " bytes");
        }
    }

    static void manyThreads() throws Exception {
        final int threads = 8, runs = 50;
        ExecutorService pool = Executors.newFixedThreadPool(threads);
        try (Network network = Network.open(file); Network.Session shared = network.session(2)) {
            FloatBuffer[] expected = outputs(network);
            shared.run(inputs(network, 5), expected);
            final int expectedHash = hash(expected);
            List<Future<Integer>> wrong = new ArrayList<>();
            for (int t = 0; t < threads; t++) {
                final boolean own = t % 2 == 0;
                wrong.add(pool.submit((Callable<Integer>) () -> {
                    int n = 0;
                    FloatBuffer[] in = inputs(network, 5), out = outputs(network);
                    for (int i = 0; i < runs; i++) {
                        Network.Session session = own ? network.session(1) : shared;
                        session.run(in, out);
                        n += hash(out) == expectedHash ? 0 : 1;
                        if (own)
                            session.close();
                    }
                    return n;
                }));
            }
            for (Future<Integer> n : wrong)
                check(n.get() == 0, "a thread got other numbers");
        } finally {
            pool.shutdown();
        }
    }

    public static void main(String[] arguments) throws Exception {
        file = new File(arguments[0]);
        bytes = Files.readAllBytes(file.toPath());
        whatItSays();
        loadFromMemory();
        brokenFiles();
        badCalls();
        softmax();
        manyThreads();
        noLeak(new File(arguments[1]));
        System.out.println(checks + " checks passed");
    }
}
