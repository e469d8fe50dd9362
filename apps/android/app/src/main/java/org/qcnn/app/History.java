// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.graphics.Bitmap;
import android.graphics.BitmapFactory;
import android.util.Log;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.json.JSONException;

/** Results and their photos, as files of the app's own: ID.json and ID.jpg. The oldest go when there are too many. */
final class History {
    private static final int LIMIT = 200, PHOTO_SIDE = 1280;
    private final File folder;

    History(File files) {
        folder = new File(files, "history");
    }

    File photo(long id) {
        return new File(folder, id + ".jpg");
    }

    private File record(long id) {
        return new File(folder, id + ".json");
    }

    /** Gives the result its id and keeps it; the record last, so that what is listed is whole. */
    synchronized void add(Result result, Bitmap photo) throws IOException {
        if (!folder.isDirectory() && !folder.mkdirs())
            throw new IOException("cannot make " + folder);
        result.id = System.currentTimeMillis();
        while (record(result.id).exists())
            result.id++;
        boolean kept = false;
        try {
            Bitmap small = shrink(photo, PHOTO_SIDE);
            Files.write(photo(result.id), out -> {
                if (!small.compress(Bitmap.CompressFormat.JPEG, 90, out))
                    throw new IOException("the photo could not be encoded");
            });
            String json = result.toJson();
            Files.write(record(result.id), out -> out.write(json.getBytes("UTF-8")));
            kept = true;
        } catch (JSONException e) {
            throw new IOException(e);
        } finally {
            if (!kept)
                photo(result.id).delete();
        }
        List<Long> ids = ids();
        for (int i = LIMIT; i < ids.size(); i++)
            delete(ids.get(i));
    }

    private static Bitmap shrink(Bitmap photo, int side) {
        int longer = Math.max(photo.getWidth(), photo.getHeight());
        if (longer <= side)
            return photo;
        return Bitmap.createScaledBitmap(photo, Math.max(1, (int) ((long) photo.getWidth() * side / longer)),
                                         Math.max(1, (int) ((long) photo.getHeight() * side / longer)), true);
    }

    private List<Long> ids() {
        List<Long> ids = new ArrayList<>();
        String[] names = folder.list();
        if (names != null) {
            Arrays.sort(names, (a, b) -> b.compareTo(a));
            for (String name : names)
                if (name.matches("[0-9]{1,18}\\.json"))
                    ids.add(Long.parseLong(name.substring(0, name.length() - 5)));
        }
        return ids;
    }

    /** What a result that was cut short left behind. */
    synchronized void sweep() {
        Files.sweep(folder);
    }

    /** Newest first; what cannot be read is left out. */
    synchronized List<Result> list() {
        List<Result> results = new ArrayList<>();
        for (long id : ids()) {
            Result result = read(id);
            if (result != null)
                results.add(result);
        }
        return results;
    }

    /** Null where it is gone or damaged. */
    Result read(long id) {
        try {
            Result result = Result.fromJson(Files.readText(record(id)));
            return result.id == id && photo(id).exists() ? result : null;
        } catch (IOException | JSONException e) {
            Log.w("Lookup", "history entry " + id, e);
            return null;
        }
    }

    synchronized void delete(long id) {
        record(id).delete();
        photo(id).delete();
    }

    /** The photo with a shorter side of at least `side` pixels if it has them; null where it is gone. */
    Bitmap loadPhoto(long id, int side) {
        BitmapFactory.Options options = new BitmapFactory.Options();
        options.inJustDecodeBounds = true;
        String path = photo(id).getPath();
        BitmapFactory.decodeFile(path, options);
        options.inSampleSize = Math.max(1, Math.min(options.outWidth, options.outHeight) / side);
        options.inJustDecodeBounds = false;
        return BitmapFactory.decodeFile(path, options);
    }

    /** The same with a shorter side of no more than `side` pixels. */
    Bitmap loadThumb(long id, int side) {
        Bitmap photo = loadPhoto(id, side);
        if (photo == null)
            return null;
        int shorter = Math.min(photo.getWidth(), photo.getHeight()), longer = Math.max(photo.getWidth(), photo.getHeight());
        return shorter <= side ? photo : shrink(photo, (int) ((long) longer * side / shorter));
    }
}
