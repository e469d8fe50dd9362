// SPDX-License-Identifier: Apache-2.0
package org.qcnn.engine;

import java.nio.charset.StandardCharsets;

/** What the library refused to do, in its own words; {@link #status} says of which kind it is. */
public final class QcnnException extends Exception {
    private static final long serialVersionUID = 1L;

    /** The values of qcnn_status that can arrive here. */
    public enum Status { OK, ARGUMENT, MEMORY, IO, FORMAT, UNSUPPORTED, CANCELLED }

    private final Status status;

    /** Called from native code, which has UTF-8 and not the Java kind of it. */
    QcnnException(int status, byte[] message) {
        super(new String(message, StandardCharsets.UTF_8));
        this.status = Status.values()[status];
    }

    public Status status() {
        return status;
    }
}
