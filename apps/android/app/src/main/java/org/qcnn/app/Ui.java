// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.app.Activity;
import android.content.ActivityNotFoundException;
import android.content.ClipData;
import android.content.Context;
import android.content.Intent;
import android.graphics.Outline;
import android.net.Uri;
import android.text.format.Formatter;
import android.view.View;
import android.view.ViewGroup;
import android.view.ViewOutlineProvider;
import android.widget.TextView;
import java.text.NumberFormat;

/** What several screens do alike. */
final class Ui {
    static String number(double value, int digits) {
        NumberFormat format = NumberFormat.getNumberInstance();
        format.setMinimumFractionDigits(digits);
        format.setMaximumFractionDigits(digits);
        return format.format(value);
    }

    /** Three figures or so. */
    static String milliseconds(Context context, double ms) {
        return context.getString(R.string.milliseconds, shortNumber(ms));
    }

    static String shortNumber(double value) {
        return number(value, value < 10 ? 2 : value < 100 ? 1 : 0);
    }

    static String percent(Context context, float probability) {
        return context.getString(R.string.percent, number(100 * probability, 1));
    }

    static String bytes(Context context, long bytes) {
        return Formatter.formatFileSize(context, bytes);
    }

    static void text(View parent, int id, CharSequence text) {
        TextView view = parent.findViewById(id);
        view.setText(text);
    }

    static void show(View view, boolean visible) {
        view.setVisibility(visible ? View.VISIBLE : View.GONE);
    }

    static void notice(TextView view, String message) {
        show(view, message != null);
        view.setText(message);
    }

    /** A number with what it is below; adds it to a row. */
    static void addTime(ViewGroup row, int name, String value) {
        View cell = View.inflate(row.getContext(), R.layout.time_cell, null);
        text(cell, R.id.value, value);
        text(cell, R.id.name, row.getContext().getString(name));
        row.addView(cell, new android.widget.LinearLayout.LayoutParams(0, ViewGroup.LayoutParams.WRAP_CONTENT, 1));
    }

    static void roundCorners(View view, float dp) {
        float radius = dp * view.getResources().getDisplayMetrics().density;
        view.setOutlineProvider(new ViewOutlineProvider() {
            @Override
            public void getOutline(View v, Outline outline) {
                outline.setRoundRect(0, 0, v.getWidth(), v.getHeight(), radius);
            }
        });
        view.setClipToOutline(true);
    }

    /** The title bar of a screen that goes back. */
    static void bar(Activity activity, int title) {
        activity.setTitle(title);
        text(activity.findViewById(R.id.root), R.id.title, activity.getString(title));
        activity.findViewById(R.id.back).setOnClickListener(v -> activity.finish());
    }

    /** The photo and what it shows, to another app; false where there is none. */
    static boolean share(Activity activity, Result result) {
        String what = activity.getString(R.string.share_text, Result.firstName(result.labels[0]), percent(activity, result.probabilities[0]),
                                         result.model);
        Intent send = new Intent(Intent.ACTION_SEND).setType("text/plain").putExtra(Intent.EXTRA_TEXT, what);
        if (result.id != 0) {
            Uri photo = PhotoProvider.history(result.id);
            send.setType("image/jpeg").putExtra(Intent.EXTRA_STREAM, photo).addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION);
            send.setClipData(ClipData.newRawUri(null, photo));
        }
        try {
            activity.startActivity(Intent.createChooser(send, null));
            return true;
        } catch (ActivityNotFoundException e) {
            return false;
        }
    }

    private Ui() {
    }
}
