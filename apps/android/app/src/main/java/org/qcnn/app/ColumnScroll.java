// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;
import android.util.AttributeSet;
import android.widget.ScrollView;

/** A scrolling column that stays readable on wide screens: no wider than R.dimen.content_width, in the middle. */
public final class ColumnScroll extends ScrollView {
    private final int widest;

    public ColumnScroll(Context context, AttributeSet attributes) {
        super(context, attributes);
        widest = getResources().getDimensionPixelSize(R.dimen.content_width);
        setScrollBarStyle(SCROLLBARS_OUTSIDE_OVERLAY);
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        int side = Math.max(0, (MeasureSpec.getSize(widthSpec) - widest) / 2);
        if (side != getPaddingLeft())
            setPadding(side, getPaddingTop(), side, getPaddingBottom());
        super.onMeasure(widthSpec, heightSpec);
    }
}
