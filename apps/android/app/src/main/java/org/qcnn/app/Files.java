// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** Files that are whole or not there. */
final class Files {
    interface Writer {
        void write(OutputStream out) throws IOException;
    }

    /** Written beside its place, synced, then renamed into it. */
    static void write(File file, Writer writer) throws IOException {
        File part = new File(file.getPath() + ".part");
        try {
            try (FileOutputStream out = new FileOutputStream(part)) {
                writer.write(out);
                out.getFD().sync();
            }
            if (!part.renameTo(file))
                throw new IOException("cannot rename " + part);
        } finally {
            part.delete();
        }
    }

    static void copy(InputStream in, OutputStream out) throws IOException {
        byte[] buffer = new byte[1 << 16];
        for (int n; (n = in.read(buffer)) > 0;)
            out.write(buffer, 0, n);
    }

    static String readText(File file) throws IOException {
        try (InputStream in = new FileInputStream(file)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy(in, out);
            return out.toString("UTF-8");
        }
    }

    private Files() {
    }
}
