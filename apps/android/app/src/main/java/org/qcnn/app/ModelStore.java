// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;
import android.content.SharedPreferences;
import android.content.res.AssetFileDescriptor;
import android.database.Cursor;
import android.net.Uri;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

/**
 * The models there are: those in the package ("asset:NAME.qcnn"), used where they lie, and those the user opened, copied to the
 * app's own files ("file:NAME.qcnn").
 */
class ModelStore {
    private static final String SUFFIX = ".qcnn", SELECTED = "model";
    private static final long MAX_BYTES = 512L << 20;
    private static final int TRIAL_SIDE = 16;
    private final Context context;
    private final File folder;
    private final SharedPreferences preferences;

    ModelStore(Context context) {
        this.context = context;
        folder = new File(context.getFilesDir(), "models");
        preferences = context.getSharedPreferences("settings", Context.MODE_PRIVATE);
    }

    List<String> ids() {
        List<String> ids = new ArrayList<>();
        addIds(ids, "asset:", bundled());
        addIds(ids, "file:", folder.list());
        return ids;
    }

    private String[] bundled() {
        try {
            return context.getAssets().list("models");
        } catch (IOException e) {
            return null;
        }
    }

    private static void addIds(List<String> ids, String kind, String[] names) {
        if (names == null)
            return;
        Arrays.sort(names);
        for (String name : names)
            if (name.endsWith(SUFFIX))
                ids.add(kind + name);
    }

    static String name(String id) {
        return id.substring(id.indexOf(':') + 1, id.length() - SUFFIX.length());
    }

    static boolean isBundled(String id) {
        return id.startsWith("asset:");
    }

    /** The model in use; null where there is none at all. */
    String selected() {
        List<String> ids = ids();
        String id = preferences.getString(SELECTED, null);
        return ids.contains(id) ? id : ids.isEmpty() ? null : ids.get(0);
    }

    void select(String id) {
        preferences.edit().putString(SELECTED, id).apply();
    }

    void delete(String id) {
        if (!isBundled(id))
            new File(folder, name(id) + SUFFIX).delete();
        if (id.equals(preferences.getString(SELECTED, null)))
            preferences.edit().remove(SELECTED).apply();
    }

    /** What a copy that was cut short left behind. */
    void sweep() {
        Files.sweep(folder);
    }

    Network open(String id) throws IOException, QcnnException {
        if (!isBundled(id))
            return Network.open(new File(folder, name(id) + SUFFIX));
        String asset = "models/" + name(id) + SUFFIX;
        try (AssetFileDescriptor file = context.getAssets().openFd(asset); FileInputStream in = file.createInputStream()) {
            return Network.open(in.getChannel(), file.getStartOffset(), file.getLength());
        }
    }

    /** Copies the file in, provided that it is a model the app can use; nothing is left of one that is not. Gives its id. */
    String add(Uri uri) throws Failure {
        String wanted = cleanName(displayName(uri)), name = wanted;
        for (int i = 2; new File(folder, name + SUFFIX).exists(); i++)
            name = wanted + "-" + i;
        File checked = new File(folder, name + ".new");
        try (InputStream in = context.getContentResolver().openInputStream(uri)) {
            if (in == null || (!folder.isDirectory() && !folder.mkdirs()))
                throw new IOException("cannot be copied");
            Files.write(checked, out -> Files.copy(in, out, MAX_BYTES + 1));
            if (checked.length() > MAX_BYTES)
                throw new Failure(R.string.model_broken, new Failure(R.string.model_too_large, MAX_BYTES >> 20));
            try (Network network = Network.open(checked)) {
                tryOut(network);
            } catch (QcnnException | Failure | RuntimeException | OutOfMemoryError e) {
                throw new Failure(R.string.model_broken, reason(e));
            }
            if (!checked.renameTo(new File(folder, name + SUFFIX)))
                throw new IOException("cannot be renamed");
        } catch (IOException | RuntimeException e) { // the provider is another app and may throw anything
            throw new Failure(R.string.model_unreadable);
        } finally {
            checked.delete();
        }
        return "file:" + name + SUFFIX;
    }

    static void checkUsable(Network network) throws Failure {
        if (network.inputs() != 1 || network.outputs() != 1 || network.inputShape(0).length != 4)
            throw new Failure(R.string.not_a_classifier);
        if (network.preprocessing() == null)
            throw new Failure(R.string.no_preprocessing);
    }

    /** One grey picture through all of it: what only fails at work fails here. */
    private static void tryOut(Network network) throws Failure, QcnnException {
        checkUsable(network);
        try (Network.Session session = network.session(1)) {
            FloatBuffer input = Network.tensor(network.inputShape(0)), output = Network.tensor(network.outputShape(0));
            if (output.capacity() == 0 || (network.classes() > 0 && network.classes() != output.capacity()))
                throw new Failure(R.string.not_a_classifier);
            ByteBuffer pixels = ByteBuffer.allocateDirect(TRIAL_SIDE * TRIAL_SIDE * 4);
            while (pixels.hasRemaining())
                pixels.put((byte) 128);
            pixels.rewind();
            network.preprocess(pixels, TRIAL_SIDE, TRIAL_SIDE, 4, input);
            session.run(input, output);
            checkFinite(output);
        }
    }

    static void checkFinite(FloatBuffer scores) throws Failure {
        for (int i = 0; i < scores.capacity(); i++)
            if (Float.isNaN(scores.get(i)) || Float.isInfinite(scores.get(i)))
                throw new Failure(R.string.no_scores);
    }

    /** A detail for a Failure. */
    static Object reason(Throwable e) {
        return e instanceof Failure ? e : e instanceof OutOfMemoryError ? new Failure(R.string.no_memory) : String.valueOf(e.getMessage());
    }

    private String displayName(Uri uri) {
        try (Cursor cursor = context.getContentResolver().query(uri, new String[] { OpenableColumns.DISPLAY_NAME }, null, null, null)) {
            if (cursor != null && cursor.moveToFirst() && cursor.getString(0) != null)
                return cursor.getString(0);
        } catch (RuntimeException e) {
            // a provider that does not know the column: the path's last part will do
        }
        return uri.getLastPathSegment() == null ? "model" : uri.getLastPathSegment();
    }

    /** Letters, digits and a few signs: the name comes from another app and becomes a path. */
    static String cleanName(String name) {
        String base = name.substring(name.lastIndexOf('/') + 1);
        if (base.endsWith(SUFFIX))
            base = base.substring(0, base.length() - SUFFIX.length());
        String clean = base.replaceAll("[^\\p{L}\\p{N}_-]+", "_");
        return clean.isEmpty() || clean.equals("_") ? "model" : clean.substring(0, Math.min(40, clean.length()));
    }
}
