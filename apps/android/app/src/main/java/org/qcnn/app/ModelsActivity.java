// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Activity;
import android.app.AlertDialog;
import android.content.ActivityNotFoundException;
import android.content.Intent;
import android.net.Uri;
import android.os.Bundle;
import android.util.Log;
import android.view.View;
import android.view.ViewGroup;
import android.widget.TextView;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import org.qcnn.engine.Network;
import org.qcnn.engine.QcnnException;

/** The models there are, which of them is in use, and a way to bring in others. */
public final class ModelsActivity extends Activity {
    private static final int OPEN = 1;

    private static final class Row {
        final String id;
        final String detail;

        Row(String id, String detail) {
            this.id = id;
            this.detail = detail;
        }
    }

    private LookupApp app;
    private String remark;

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        app = LookupApp.of(this);
        setContentView(R.layout.activity_models);
        Ui.bar(this, R.string.models);
        findViewById(R.id.open).setOnClickListener(v -> chooseFile());
        say(saved == null ? null : saved.getString("remark"));
        load();
    }

    @Override
    protected void onSaveInstanceState(Bundle saved) {
        super.onSaveInstanceState(saved);
        saved.putString("remark", remark);
    }

    private void chooseFile() {
        try {
            startActivityForResult(new Intent(Intent.ACTION_OPEN_DOCUMENT).setType("*/*").addCategory(Intent.CATEGORY_OPENABLE), OPEN);
        } catch (ActivityNotFoundException e) {
            say(getString(R.string.no_files));
        }
    }

    @Override
    protected void onActivityResult(int request, int code, Intent data) {
        if (request != OPEN || code != RESULT_OK || data == null || data.getData() == null)
            return;
        Uri uri = data.getData();
        app.worker.execute(() -> {
            String message;
            try {
                String id = app.models.add(uri);
                app.engine.forget(id); // of a file that vanished
                app.models.select(id);
                message = getString(R.string.model_opened, ModelStore.name(id));
            } catch (Failure e) {
                message = e.message(app);
            } catch (RuntimeException | OutOfMemoryError e) {
                Log.w("Lookup", "a new model", e);
                message = getString(R.string.model_unreadable);
            }
            String said = message;
            app.main.post(() -> {
                say(said);
                load();
            });
        });
    }

    private void say(String message) {
        remark = message;
        Ui.notice((TextView) findViewById(R.id.notice), remark);
    }

    /** Reads each model's particulars away from the main thread, then fills the list. */
    private void load() {
        app.worker.execute(() -> {
            List<Row> rows = new ArrayList<>();
            String selected = app.models.selected();
            for (String id : app.models.ids())
                rows.add(new Row(id, detail(id)));
            app.main.post(() -> fill(rows, selected));
        });
    }

    private String detail(String id) {
        try (Network network = app.models.open(id)) {
            String size = getString(R.string.model_size, Ui.bytes(this, network.fileBytes()),
                                    Ui.number((double) network.originalBytes() / network.fileBytes(), 1), Ui.bytes(this, network.originalBytes()));
            String classes = getString(R.string.model_classes, network.outputShape(0)[1]);
            return size + "\n" + (ModelStore.isBundled(id) ? classes + " · " + getString(R.string.model_bundled) : classes);
        } catch (IOException | QcnnException | RuntimeException | OutOfMemoryError e) {
            return String.valueOf(e.getMessage());
        }
    }

    private void fill(List<Row> rows, String selected) {
        ViewGroup list = findViewById(R.id.list);
        list.removeAllViews();
        Ui.notice((TextView) findViewById(R.id.notice), rows.isEmpty() ? getString(R.string.no_model) : remark);
        for (Row row : rows) {
            View view = getLayoutInflater().inflate(R.layout.model_item, list, false);
            Ui.text(view, R.id.name, ModelStore.name(row.id));
            Ui.text(view, R.id.detail, row.detail);
            Ui.show(view.findViewById(R.id.in_use), row.id.equals(selected));
            view.setOnClickListener(v -> select(row.id));
            View delete = view.findViewById(R.id.delete);
            Ui.show(delete, !ModelStore.isBundled(row.id));
            delete.setOnClickListener(v -> confirmDelete(row.id));
            list.addView(view);
        }
    }

    private void select(String id) {
        app.models.select(id);
        remark = null;
        load();
    }

    private void confirmDelete(String id) {
        new AlertDialog.Builder(this)
            .setMessage(getString(R.string.delete_model, ModelStore.name(id)))
            .setNegativeButton(R.string.cancel, null)
            .setPositiveButton(R.string.delete, (dialog, which) -> {
                app.worker.execute(() -> {
                    app.engine.forget(id);
                    app.models.delete(id);
                });
                remark = null;
                load();
            })
            .show();
    }
}
