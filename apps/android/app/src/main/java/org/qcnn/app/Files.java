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
        copy(in, out, Long.MAX_VALUE);
    }

    /** At most `limit` bytes. */
    static void copy(InputStream in, OutputStream out, long limit) throws IOException {
        byte[] buffer = new byte[1 << 16];
        long left = limit;
        for (int n; left > 0 && (n = in.read(buffer, 0, (int) Math.min(buffer.length, left))) > 0; left -= n)
            out.write(buffer, 0, n);
    }

    /** Deletes what a process that died while writing left behind. */
    static void sweep(File folder) {
        String[] names = folder.list();
        for (int i = 0; names != null && i < names.length; i++)
            if (names[i].endsWith(".part") || names[i].endsWith(".new"))
                new File(folder, names[i]).delete();
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
