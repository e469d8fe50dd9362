// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import java.io.IOException;
import java.nio.FloatBuffer;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

/** The selected model, open, with a session and its tensors. Used from the worker thread alone. */
final class Engine {
    private final ModelStore models;
    private String id;
    private Network network;
    private Network.Session session;
    private FloatBuffer input, output;

    Engine(ModelStore models) {
        this.models = models;
    }

    static int threads() {
        return Math.max(1, Math.min(4, Runtime.getRuntime().availableProcessors()));
    }

    /** Makes sure that the selected model is open. */
    Network network() throws Failure {
        String selected = models.selected();
        if (selected == null) {
            close();
            throw new Failure(R.string.no_model);
        }
        if (selected.equals(id))
            return network;
        close();
        try {
            network = models.open(selected);
            ModelStore.checkUsable(network);
            session = network.session(threads());
            input = Network.tensor(network.inputShape(0));
            output = Network.tensor(network.outputShape(0));
            id = selected;
            return network;
        } catch (IOException | QcnnException | Failure | RuntimeException | OutOfMemoryError e) {
            close();
            throw failure(selected, e);
        }
    }

    /** Says that the model in use fails, and why. */
    Failure failure(Throwable e) {
        return failure(id, e);
    }

    private static Failure failure(String model, Throwable e) {
        return new Failure(R.string.model_fails, model == null ? "" : ModelStore.name(model), ModelStore.reason(e));
    }

    /** Of a model that is deleted: another may get its id. */
    void forget(String gone) {
        if (gone.equals(id))
            close();
    }

    String name() {
        return ModelStore.name(id);
    }

    Network.Session session() {
        return session;
    }

    FloatBuffer input() {
        return input;
    }

    FloatBuffer output() {
        return output;
    }

    void close() {
        if (session != null)
            session.close();
        if (network != null)
            network.close();
        session = null;
        network = null;
        input = null;
        output = null;
        id = null;
    }
}
