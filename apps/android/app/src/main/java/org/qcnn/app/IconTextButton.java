// SPDX-License-Identifier: Apache-2.0
package org.qcnn.app;

import android.content.Context;
import android.graphics.Canvas;
import android.graphics.drawable.Drawable;
import android.text.Layout;
import android.util.AttributeSet;
import android.view.Gravity;
import android.widget.Button;

/** A button whose icon stands beside its text, both in the middle; the framework's would leave the icon at the edge. */
public final class IconTextButton extends Button {
    public IconTextButton(Context context, AttributeSet attributes) {
        super(context, attributes);
        setGravity(Gravity.START | Gravity.CENTER_VERTICAL);
    }

    @Override
    protected void onDraw(Canvas canvas) {
        Layout text = getLayout();
        Drawable icon = getCompoundDrawablesRelative()[0];
        float width = icon == null ? 0 : icon.getBounds().width() + getCompoundDrawablePadding();
        float longest = 0;
        for (int i = 0; text != null && i < text.getLineCount(); i++)
            longest = Math.max(longest, text.getLineWidth(i));
        float free = getWidth() - getPaddingLeft() - getPaddingRight() - width - longest;
        float shift = Math.max(0, free / 2);
        canvas.translate(getLayoutDirection() == LAYOUT_DIRECTION_RTL ? -shift : shift, 0);
        super.onDraw(canvas);
    }
}
