// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Activity;
import android.app.AlertDialog;
import android.content.Intent;
import android.graphics.Bitmap;
import android.os.Bundle;
import android.text.format.DateUtils;
import android.util.Log;
import android.util.LruCache;
import android.view.View;
import android.view.ViewGroup;
import android.widget.BaseAdapter;
import android.widget.GridView;
import android.widget.ImageView;
import android.widget.Toast;
import java.util.ArrayList;
import java.util.List;

/** Photos looked up before, newest first: to open, share and delete. */
public final class HistoryActivity extends Activity {
    private static final int THUMB_SIDE = 200;
    private static final int CACHE_BYTES = (int) Math.min(Integer.MAX_VALUE, Runtime.getRuntime().maxMemory() / 8);
    private LookupApp app;
    private List<Result> results = new ArrayList<>();
    private final LruCache<Long, Bitmap> thumbs = new LruCache<Long, Bitmap>(CACHE_BYTES) {
        @Override
        protected int sizeOf(Long id, Bitmap thumb) {
            return thumb.getByteCount();
        }
    };
    private final Adapter adapter = new Adapter();

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        app = LookupApp.of(this);
        setContentView(R.layout.activity_history);
        Ui.bar(this, R.string.history);
        GridView list = findViewById(R.id.list);
        list.setAdapter(adapter);
        list.setOnItemClickListener((parent, view, position, id) -> open(results.get(position)));
    }

    @Override
    protected void onStart() {
        super.onStart();
        load();
    }

    private void load() {
        app.pictures.execute(() -> {
            try {
                List<Result> found = app.history.list();
                app.main.post(() -> show(found));
            } catch (RuntimeException | OutOfMemoryError e) {
                Log.w("Lookup", "the history", e);
            }
        });
    }

    private void show(List<Result> found) {
        results = found;
        adapter.notifyDataSetChanged();
        Ui.show(findViewById(R.id.empty), results.isEmpty());
    }

    private void open(Result result) {
        startActivity(new Intent(this, MainActivity.class).putExtra(MainActivity.EXTRA_RESULT, result.id)
                          .addFlags(Intent.FLAG_ACTIVITY_CLEAR_TOP | Intent.FLAG_ACTIVITY_SINGLE_TOP));
        finish();
    }

    private void share(Result result) {
        if (!Ui.share(this, result))
            Toast.makeText(this, R.string.no_share, Toast.LENGTH_LONG).show();
    }

    private void confirmDelete(Result result) {
        new AlertDialog.Builder(this)
            .setMessage(R.string.delete_result)
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete, (dialog, which) -> delete(result))
            .show();
    }

    private void delete(Result result) {
        Result shown = app.classifier.result;
        if (shown != null && shown.id == result.id)
            app.classifier.clear();
        app.pictures.execute(() -> app.history.delete(result.id));
        load();
    }

    private CharSequence when(Result result) {
        long now = System.currentTimeMillis();
        return now - result.id < DateUtils.MINUTE_IN_MILLIS
            ? getString(R.string.just_now)
            : DateUtils.getRelativeTimeSpanString(result.id, now, DateUtils.MINUTE_IN_MILLIS);
    }

    private void showThumb(ImageView view, long id) {
        view.setTag(id);
        Bitmap known = thumbs.get(id);
        view.setImageBitmap(known);
        if (known != null)
            return;
        app.pictures.execute(() -> {
            try {
                Bitmap thumb = app.history.loadThumb(id, THUMB_SIDE);
                if (thumb != null)
                    app.main.post(() -> {
                        thumbs.put(id, thumb);
                        if (Long.valueOf(id).equals(view.getTag())) // the row may show another photo by now
                            view.setImageBitmap(thumb);
                    });
            } catch (RuntimeException | OutOfMemoryError e) {
                Log.w("Lookup", "a small picture", e); // the row stays without
            }
        });
    }

    private final class Adapter extends BaseAdapter {
        @Override
        public int getCount() {
            return results.size();
        }

        @Override
        public Result getItem(int position) {
            return results.get(position);
        }

        @Override
        public long getItemId(int position) {
            return results.get(position).id;
        }

        @Override
        public boolean hasStableIds() {
            return true;
        }

        @Override
        public View getView(int position, View old, ViewGroup parent) {
            View row = old;
            if (row == null) {
                row = getLayoutInflater().inflate(R.layout.history_item, parent, false);
                Ui.roundCorners(row.findViewById(R.id.thumb), 14);
            }
            Result result = getItem(position);
            Ui.text(row, R.id.name, Result.firstName(result.labels[0]));
            Ui.text(row, R.id.detail, getString(R.string.history_line, Ui.percent(HistoryActivity.this, result.probabilities[0]), when(result)));
            showThumb(row.findViewById(R.id.thumb), result.id);
            row.findViewById(R.id.share).setOnClickListener(v -> share(result));
            row.findViewById(R.id.delete).setOnClickListener(v -> confirmDelete(result));
            return row;
        }
    }
}
