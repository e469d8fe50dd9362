// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.ContentResolver;
import android.content.Intent;
import android.net.Uri;
import android.os.Build;
import android.os.Bundle;
import android.provider.MediaStore;
import android.view.View;
import android.view.ViewGroup;
import android.widget.ImageView;
import android.widget.ScrollView;
import android.widget.TextView;
import java.io.File;

/** A photo and what it shows. */
public final class MainActivity extends Activity implements Classifier.Listener {
    static final String EXTRA_RESULT = "org.qcnn.app.RESULT"; // a result of the history to show
    private static final int CHOOSE = 1, CAMERA = 2;
    private static final float UNSURE = 0.25f;

    private LookupApp app;
    private File taken;     // where the camera app puts its photo, while it is open
    private String remark;  // a message of this screen's own; null: none

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        app = LookupApp.of(this);
        setContentView(R.layout.activity_main);
        Ui.roundCorners(findViewById(R.id.photo), 20);
        findViewById(R.id.choose).setOnClickListener(v -> choose());
        findViewById(R.id.camera).setOnClickListener(v -> takePhoto());
        findViewById(R.id.share).setOnClickListener(v -> share());
        findViewById(R.id.history).setOnClickListener(v -> startActivity(new Intent(this, HistoryActivity.class)));
        findViewById(R.id.models).setOnClickListener(v -> startActivity(new Intent(this, ModelsActivity.class)));
        findViewById(R.id.model_line).setOnClickListener(v -> startActivity(new Intent(this, ModelsActivity.class)));
        findViewById(R.id.benchmark).setOnClickListener(v -> startActivity(new Intent(this, BenchmarkActivity.class)));
        if (saved == null)
            handle(getIntent());
        else
            restore(saved);
    }

    // ---- state ---------------------------------------------------------------------------------------------------------

    /** After a rotation the classifier still knows everything; after the death of the process it is told. */
    private void restore(Bundle saved) {
        String path = saved.getString("taken");
        taken = path == null ? null : new File(path);
        remark = saved.getString("remark");
        if (app.classifier.stage != Classifier.Stage.IDLE)
            return;
        Uri pending = saved.getParcelable("pending");
        long id = saved.getLong("result");
        if (pending != null)
            app.classifier.start(pending);
        else if (id != 0)
            app.classifier.open(id);
    }

    @Override
    protected void onSaveInstanceState(Bundle saved) {
        super.onSaveInstanceState(saved);
        saved.putString("taken", taken == null ? null : taken.getPath());
        saved.putString("remark", remark);
        saved.putParcelable("pending", app.classifier.pending);
        saved.putLong("result", app.classifier.result != null ? app.classifier.result.id : app.classifier.opening);
    }

    @Override
    protected void onStart() {
        super.onStart();
        app.classifier.listen(this);
        classifierChanged();
    }

    @Override
    protected void onStop() {
        app.classifier.unlisten(this);
        super.onStop();
    }

    @Override
    protected void onNewIntent(Intent intent) {
        super.onNewIntent(intent);
        setIntent(intent);
        handle(intent);
    }

    /** A photo shared by another app, or a result that the history asks to show. */
    private void handle(Intent intent) {
        if (intent == null || (intent.getFlags() & Intent.FLAG_ACTIVITY_LAUNCHED_FROM_HISTORY) != 0)
            return;
        try {
            if (Intent.ACTION_SEND.equals(intent.getAction())) {
                Uri uri = intent.getParcelableExtra(Intent.EXTRA_STREAM);
                look(uri);
            } else if (intent.hasExtra(EXTRA_RESULT)) {
                remark = null;
                app.classifier.open(intent.getLongExtra(EXTRA_RESULT, 0));
            }
        } catch (RuntimeException e) { // the extras are another app's and may be anything
            say(R.string.cannot_open);
        }
    }

    // ---- photos in -----------------------------------------------------------------------------------------------------

    private void look(Uri uri) {
        // Other apps lend content; a path could point to files of this app's own.
        boolean lent = uri != null && ContentResolver.SCHEME_CONTENT.equals(uri.getScheme());
        remark = lent ? null : getString(R.string.cannot_open);
        if (lent)
            app.classifier.start(uri);
        else
            classifierChanged();
    }

    private void say(int message) {
        remark = getString(message);
        classifierChanged();
    }

    private void choose() {
        Intent any = new Intent(Intent.ACTION_GET_CONTENT).setType("image/*").addCategory(Intent.CATEGORY_OPENABLE);
        Intent picker = new Intent(MediaStore.ACTION_PICK_IMAGES).setType("image/*");
        if (!(Build.VERSION.SDK_INT >= 33 && choose(picker)) && !choose(any))
            say(R.string.no_gallery);
    }

    /** False where no app does this. */
    private boolean choose(Intent picker) {
        try {
            startActivityForResult(picker, CHOOSE);
            return true;
        } catch (ActivityNotFoundException e) {
            return false;
        }
    }

    private void takePhoto() {
        File folder = PhotoProvider.cameraFolder(this);
        folder.mkdirs();
        File[] old = folder.listFiles();
        for (int i = 0; old != null && i < old.length; i++)
            old[i].delete();
        taken = new File(folder, System.currentTimeMillis() + ".jpg");
        Uri uri = PhotoProvider.camera(taken);
        Intent camera = new Intent(MediaStore.ACTION_IMAGE_CAPTURE).putExtra(MediaStore.EXTRA_OUTPUT, uri);
        camera.addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION | Intent.FLAG_GRANT_READ_URI_PERMISSION);
        camera.setClipData(ClipData.newRawUri(null, uri));
        try {
            startActivityForResult(camera, CAMERA);
        } catch (ActivityNotFoundException | SecurityException e) {
            taken = null;
            say(R.string.no_camera);
        }
    }

    @Override
    protected void onActivityResult(int request, int code, Intent data) {
        File photo = taken;
        taken = null;
        if (request == CAMERA && code == RESULT_OK && photo != null)
            look(PhotoProvider.camera(photo));
        else if (request == CHOOSE && code == RESULT_OK && data != null)
            look(data.getData());
        else
            say(R.string.nothing_chosen);
    }

    private void share() {
        if (app.classifier.result != null && !Ui.share(this, app.classifier.result))
            say(R.string.no_share);
    }

    // ---- showing -------------------------------------------------------------------------------------------------------

    @Override
    public void classifierChanged() {
        Classifier c = app.classifier;
        boolean done = c.stage == Classifier.Stage.DONE, working = c.stage == Classifier.Stage.WORKING;
        if (working)
            remark = null;
        Ui.show(findViewById(R.id.empty), !done && !working);
        View side = findViewById(R.id.empty_side); // of the two-pane layout
        if (side != null)
            Ui.show(side, !done && !working);
        Ui.show(findViewById(R.id.working), working);
        Ui.show(findViewById(R.id.photo), done);
        Ui.show(findViewById(R.id.result), done);
        Ui.notice((TextView) findViewById(R.id.notice), remark != null ? remark : c.message);
        ImageView photo = findViewById(R.id.photo);
        photo.setImageBitmap(c.photo);
        if (done)
            showResult(c.result);
        else
            ((ScrollView) findViewById(R.id.scroll)).scrollTo(0, 0);
    }

    private void showResult(Result result) {
        View root = findViewById(R.id.root);
        Ui.text(root, R.id.best, Result.firstName(result.labels[0]));
        String others = Result.otherNames(result.labels[0]);
        boolean unsure = result.probabilities[0] < UNSURE;
        Ui.text(root, R.id.best_more, unsure ? getString(R.string.unsure, result.classes) : others);
        Ui.show(findViewById(R.id.best_more), unsure || !others.isEmpty());
        ViewGroup classes = findViewById(R.id.classes);
        classes.removeAllViews();
        for (int i = 0; i < result.labels.length; i++) {
            View row = getLayoutInflater().inflate(R.layout.class_row, classes, false);
            String name = Result.firstName(result.labels[i]), percent = Ui.percent(this, result.probabilities[i]);
            Ui.text(row, R.id.name, name);
            Ui.text(row, R.id.value, percent);
            row.setContentDescription(getString(R.string.class_row, name, percent));
            ((BarView) row.findViewById(R.id.bar)).show(result.probabilities[i], i > 0);
            classes.addView(row);
        }
        ViewGroup times = findViewById(R.id.times);
        times.removeAllViews();
        Ui.addTime(times, R.string.decode, Ui.milliseconds(this, result.decodeMs));
        Ui.addTime(times, R.string.preprocess, Ui.milliseconds(this, result.preprocessMs));
        Ui.addTime(times, R.string.network, Ui.milliseconds(this, result.networkMs));
        Ui.text(root, R.id.model_line,
                getString(R.string.model_line, result.model, Ui.bytes(this, result.modelBytes), Ui.number(result.ratio, 1)));
    }
}
