// SPDX-License-Identifier: Apache-2.0
// Classes of photographs through org.qcnn.engine.Network, for comparison with `qcnn classify`. Decoded photographs come from
// standard input (decode_photos); a line of classes and probabilities goes out for each.
//   decode_photos *.jpg | java -Djava.library.path=build Classify MODEL.qcnn
import java.io.DataInputStream;
import java.io.File;
import java.io.EOFException;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import org.qcnn.engine.Network;

public final class Classify {
    public static void main(String[] arguments) throws Exception {
        try (Network network = Network.open(new File(arguments[0])); Network.Session session = network.session(1)) {
            FloatBuffer tensor = Network.tensor(network.inputShape(0)), scores = Network.tensor(network.outputShape(0));
            DataInputStream in = new DataInputStream(System.in);
            StringBuilder lines = new StringBuilder();
            for (;;) {
                int width;
                try {
                    width = in.readInt();
                } catch (EOFException end) {
                    break;
                }
                int height = in.readInt(), channels = in.readInt();
                byte[] pixels = new byte[width * height * channels];
                in.readFully(pixels);
                ByteBuffer direct = ByteBuffer.allocateDirect(pixels.length).put(pixels);
                network.preprocess(direct, width, height, channels, tensor);
                session.run(tensor, scores);
                float[] p = Network.probabilities(scores);
                for (int rank = 0; rank < 5; rank++) {
                    int best = 0;
                    for (int i = 1; i < p.length; i++)
                        if (p[i] > p[best])
                            best = i;
                    lines.append(best).append(' ').append(p[best]).append(rank < 4 ? ' ' : '\n');
                    p[best] = -1;
                }
            }
            System.out.print(lines);
        }
    }
}
