// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;
import android.util.AttributeSet;
import android.widget.FrameLayout;

/** Where the photo is: it takes what room there is, and asks for no more than its least height, however large the photo. */
public final class PhotoPane extends FrameLayout {
    public PhotoPane(Context context, AttributeSet attributes) {
        super(context, attributes);
    }

    @Override
    protected void onMeasure(int widthSpec, int heightSpec) {
        boolean showsPhoto = findViewById(R.id.photo).getVisibility() == VISIBLE;
        if (showsPhoto && MeasureSpec.getMode(heightSpec) != MeasureSpec.EXACTLY)
            heightSpec = MeasureSpec.makeMeasureSpec(getSuggestedMinimumHeight(), MeasureSpec.EXACTLY);
        super.onMeasure(widthSpec, heightSpec);
    }
}
