// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.ContentProvider;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.database.MatrixCursor;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileNotFoundException;
import java.util.List;

/**
 * Lends single files to other apps: camera/NAME.jpg for the camera app to write, history/ID.jpg for a receiver of "share" to
 * read. Not exported; each loan is a permission for one address.
 */
public final class PhotoProvider extends ContentProvider {
    private static final String AUTHORITY = "org.qcnn.app.photos";

    static Uri camera(File file) {
        return new Uri.Builder().scheme("content").authority(AUTHORITY).appendPath("camera").appendPath(file.getName()).build();
    }

    static Uri history(long id) {
        return new Uri.Builder().scheme("content").authority(AUTHORITY).appendPath("history").appendPath(id + ".jpg").build();
    }

    static File cameraFolder(Context context) {
        return new File(context.getCacheDir(), "camera");
    }

    private File file(Uri uri) throws FileNotFoundException {
        List<String> path = uri.getPathSegments();
        if (path.size() == 2 && path.get(1).matches("[0-9]{1,18}\\.jpg")) {
            if (path.get(0).equals("camera"))
                return new File(cameraFolder(getContext()), path.get(1));
            if (path.get(0).equals("history"))
                return new File(new File(getContext().getFilesDir(), "history"), path.get(1));
        }
        throw new FileNotFoundException(uri.toString());
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
        File file = file(uri);
        boolean ours = uri.getPathSegments().get(0).equals("history");
        if (ours && !mode.equals("r"))
            throw new FileNotFoundException(uri + " can only be read");
        return ParcelFileDescriptor.open(file, ParcelFileDescriptor.parseMode(mode));
    }

    @Override
    public Cursor query(Uri uri, String[] projection, String selection, String[] arguments, String order) {
        String[] columns = projection == null ? new String[] { OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE } : projection;
        MatrixCursor cursor = new MatrixCursor(columns, 1);
        try {
            File file = file(uri);
            Object[] row = new Object[columns.length];
            for (int i = 0; i < columns.length; i++)
                row[i] = columns[i].equals(OpenableColumns.DISPLAY_NAME) ? (Object) file.getName()
                         : columns[i].equals(OpenableColumns.SIZE) ? (Object) file.length() : null;
            cursor.addRow(row);
        } catch (FileNotFoundException e) {
            return cursor; // empty
        }
        return cursor;
    }

    @Override
    public String getType(Uri uri) {
        return "image/jpeg";
    }

    @Override
    public boolean onCreate() {
        return true;
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int delete(Uri uri, String selection, String[] arguments) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int update(Uri uri, ContentValues values, String selection, String[] arguments) {
        throw new UnsupportedOperationException();
    }
}
