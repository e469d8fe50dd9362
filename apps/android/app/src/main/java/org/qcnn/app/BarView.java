// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.Paint;
import android.util.AttributeSet;
import android.view.View;

/** A horizontal bar, filled from the start to a fraction of its width. */
public final class BarView extends View {
    private final Paint track = new Paint(Paint.ANTI_ALIAS_FLAG), fill = new Paint(Paint.ANTI_ALIAS_FLAG);
    private float fraction;

    public BarView(Context context, AttributeSet attributes) {
        super(context, attributes);
        track.setColor(context.getColor(R.color.track));
        fill.setColor(context.getColor(R.color.bar));
        setImportantForAccessibility(IMPORTANT_FOR_ACCESSIBILITY_NO);
    }

    /** A quiet bar stands behind the first one. */
    void show(float newFraction, boolean quiet) {
        fraction = Math.max(0, Math.min(1, newFraction));
        fill.setColor(getContext().getColor(quiet ? R.color.bar_quiet : R.color.bar));
        invalidate();
    }

    @Override
    protected void onDraw(Canvas canvas) {
        float width = getWidth(), height = getHeight(), radius = height / 2;
        canvas.drawRoundRect(0, 0, width, height, radius, radius, track);
        if (fraction <= 0)
            return;
        float length = Math.max(height, fraction * width); // never less than a dot
        boolean fromRight = getLayoutDirection() == LAYOUT_DIRECTION_RTL;
        canvas.drawRoundRect(fromRight ? width - length : 0, 0, fromRight ? width : length, height, radius, radius, fill);
    }
}
